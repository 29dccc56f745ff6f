"""What a wrong configuration is answered with: every problem, its line, and never a secret."""

from pathlib import Path

import pytest

from schemas.config import Deployment, GatewayConfig, Settings
from schemas.errors import ConfigError
from services.runtime.config import load_config, read_config
from services.runtime.config_keys import SECTIONS
from services.runtime.config_reader import PROBLEMS_SHOWN_MAX
from services.runtime.yaml_lines import FILE_BYTES_MAX

MODEL = "model_list:\n  - model_name: m\n    litellm_params: {model: anthropic/m, %s}\n"


def problems(text: str | bytes, environment: dict[str, str] | None = None) -> list[str]:
    """Return the lines of the error, "LINE: text", without its head."""
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as raised:
        read_config(content, "config.yaml", environment or {})
    head, *lines = str(raised.value).split("\n")
    assert head.startswith("the configuration cannot be used")
    return [line.removeprefix("config.yaml:") for line in lines]


def the_problem(text: str | bytes, environment: dict[str, str] | None = None) -> str:
    (problem,) = problems(text, environment)
    return problem


def test_all_problems_are_told_at_once_in_the_order_of_their_lines() -> None:
    # Given four mistakes in four sections, when it is read, then four lines come, sorted.
    found = problems(
        "tallygate: {idle_timeout: 5}\n"
        "general_settings: {master_ky: x}\n"
        "model_list:\n"
        "  - model_name: a\n"
        "    litellm_params: {model: anthropic/a, api_bse: x}\n"
        "router_settings: {enable_tag_filtering: true}\n"
    )
    assert [line.partition(":")[0] for line in found] == ["1", "2", "5", "6"]
    assert "did you mean idle_timeout_s?" in found[0]
    assert "did you mean master_key?" in found[1]
    assert "did you mean api_base?" in found[2]
    assert "LiteLLM's router_settings.enable_tag_filtering is not supported" in found[3]


@pytest.mark.parametrize(
    ("section", "key"),
    [(section, key) for section, keys in SECTIONS.items() for key in keys.refused],
)
def test_every_refused_key_is_refused_by_name(section: str, key: str) -> None:
    # Given a key that cannot be ignored in silence, then the file is refused and names it.
    if section == "":
        text = f"{key}: on-and-so\n"
    elif section in {"litellm_params", "model_info"}:
        params = f"{key}: on-and-so" if section == "litellm_params" else "api_key: k"
        info = f"{{{key}: on-and-so}}" if section == "model_info" else "{}"
        text = MODEL % params + f"    model_info: {info}\n"
    else:
        text = f"{section}: {{{key}: on-and-so}}\n"
    problem = the_problem(text)
    assert f"{key} is not supported by tallygate: " in problem
    assert "on-and-so" not in problem


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (section, key)
        for section in ("general_settings", "litellm_settings", "router_settings")
        for key in SECTIONS[section].ignored
    ],
)
def test_every_ignored_key_is_told_by_name(section: str, key: str) -> None:
    # Given a key that nothing hangs on, then the file works and a notice names it.
    config = read_config(f"{section}: {{{key}: on-and-so}}".encode(), "c", {})
    (notice,) = [text for text in config.notices if "not supported" in text]
    assert f"LiteLLM's {section}.{key} is not supported by tallygate: " in notice
    assert "on-and-so" not in notice


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("api_key: 5", "must be text"),
        ("api_key: sk-ant-oat01-abc", "sign-in token"),
        ("api_key: 'two words'", "no spaces"),
        ("api_key: os.environ/NOT_SET", "NOT_SET is not set"),
        ("api_key: os.environ/", "name of a variable"),
        ("api_base: 'http://gw.example'", "https://"),
        ("api_base: 'ftp://gw.example'", "begins with https://"),
        ("api_base: 'https://u:p@gw.example'", "user name or password"),
        ("api_base: 'https://gw.example?x=1'", "query"),
        ("api_base: 'https://gw.example:99999'", "port"),
        ("api_base: 'https://api.anthropic.com\\@evil.example'", "must be a URL"),
        ("timeout: 0", "from 0.1 to 86400"),
        ("timeout: .nan", "from 0.1 to 86400"),
        ("timeout: true", "from 0.1 to 86400"),
        ("input_cost_per_token_above_200k_tokens: 1", "price book"),
    ],
)
def test_a_wrong_parameter_of_a_model_is_told_with_its_line(params: str, words: str) -> None:
    # Given one wrong parameter, then exactly one problem on its line says what to do.
    problem = the_problem(MODEL % params)
    assert problem.startswith("3: model_list[0].litellm_params.") or "LiteLLM's" in problem
    assert words in problem


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{model_name: a}", "litellm_params is missing"),
        ("{litellm_params: {model: anthropic/a}}", "model_name is missing"),
        ("{model_name: a, litellm_params: {}}", "model is missing"),
        ("{model_name: a, litellm_params: {model: openai/gpt-5}}", "anthropic/<model>"),
        ("{model_name: a, litellm_params: {model: claude-opus-4}}", "anthropic/<model>"),
        ("{model_name: a, litellm_params: {model: anthropic/}}", "anthropic/<model>"),
        ("{model_name: a, litellm_params: {model: anthropic/*}}", "one * at most"),
        ("{model_name: 'a*b*', litellm_params: {model: anthropic/a}}", "one * at most"),
        ('{model_name: "a\\nb", litellm_params: {model: anthropic/a}}', "printable"),
        ("just-a-name", "must be a mapping"),
    ],
)
def test_a_wrong_entry_of_model_list_is_told(entry: str, words: str) -> None:
    # Given an entry that is none, then one problem says what is wrong with it.
    assert words in the_problem(f"model_list:\n  - {entry}\n")


def test_an_id_that_stands_twice_is_a_problem() -> None:
    # Given two models with one id, then the second one's line is named.
    entry = "  - {model_name: %s, litellm_params: {model: anthropic/a}, model_info: {id: x}}\n"
    found = the_problem("model_list:\n" + entry % "a" + entry % "b")
    assert found.startswith("3: ")
    assert "line 2" in found


def test_forwarding_for_a_model_that_is_not_there_names_the_nearest() -> None:
    # Given a misspelt model name, then the problem stands on its line and names the right one.
    text = (MODEL % "api_key: k").replace("name: m", "name: sonnet")
    text += "model_group_settings:\n  forward_client_headers_to_llm_api:\n    - sonet\n"
    problem = the_problem(text)
    assert problem.startswith("6: ")
    assert "did you mean sonnet?" in problem


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("outbox_full: ignore", "one of refuse, serve"),
        ("client_disconnect: 1", "one of cancel, drain"),
        ("log_level: trace", "one of debug, info, warning, error"),
        ("request_bytes_max: 1.5", "a whole number from 1024"),
        ("request_bytes_max: '32'", "a whole number from 1024"),
        ("upstream_connections_max: 0", "from 1 to 100000"),
        ("idle_timeout_s: .inf", "from 1 to 3600"),
        ("drain_timeout_s: -1", "from 0 to 3600"),
        ("oauth_hosts: gw.example", "a list of texts"),
        ("oauth_hosts: ['https://gw.example']", "a host alone"),
        ("insecure_http_hosts: ['gw:80']", "a host alone"),
        ("pass_through_paths: /v1/skills", "a list of texts"),
        ("pass_through_paths: ['/skills']", "begins with /v1/"),
        ("pass_through_paths: ['/v1/*/x*']", "one `*`"),
        ("pass_through_paths: ['/v1/a?b']", "paths of the API"),
        ("upload_bytes_max: 1", "from 1024 to"),
        ("nats_url: 'http://nats:4222'", "nats:// or tls://"),
        ("admin_url: 'http://u:p@admin'", "user name or password"),
        ("budget_message: ''", "text of at most 500"),
        ('budget_message: "a\\nb"', "one line"),
        ("upstream_keepalive_s: 0", "from 1 to 3600"),
        ("upstream_ca_file: ca.pem", "the whole path of a file"),
        ("upstream_ca_file: /no/such/file", "cannot be read: No such file"),
        ("upstream_ca_file: /etc/passwd", "certificates in PEM form"),
        ("upstream_proxy: 'https://p:3128'", "begins with http://"),
        ("upstream_proxy: p", "begins with http://"),
        ("upstream_proxy: 'http://p:3128/x'", "end after its host and port"),
        ("log_level: os.environ/NOT_SET", "NOT_SET is not set"),
    ],
)
def test_a_setting_out_of_its_bounds_is_told(setting: str, words: str) -> None:
    # Given a setting of a wrong type or size, then the problem says what it must be.
    problem = the_problem(f"tallygate:\n  {setting}\n")
    assert problem.startswith(f"2: tallygate.{setting.partition(':')[0]}")
    assert words in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tallygate: {log_level: info, log_level: debug}", "tallygate.log_level stands twice"),
        ("general_settings: {timezone: UTC}", "it belongs into litellm_settings"),
        ("nats_url: 'nats://n'", "it belongs into tallygate"),
        ("litellm_settings: {timezone: Europe/Berln}", "name of a time zone"),
        ("litellm_settings: {timezone: ../../etc/passwd}", "name of a time zone"),
        ("litellm_settings: {timezone: America}", "name of a time zone"),
        ("litellm_settings: {max_budget: lots}", "must be an amount"),
        ("litellm_settings: {max_budget: 5, budget_duration: 3x}", "a duration is"),
        ("litellm_settings: {budget_duration: 30d}", "max_budget, which is missing"),
        ("litellm_settings: {master_key: 'a b'}", "without spaces"),
        ("general_settings: [a]", "must be a mapping"),
        ("model_list: {a: b}", "must be a list"),
        ("- a", "the file must be a mapping"),
        ("general_settings: {forward_client_headers_to_llm_api: 'yes'}", "true or false"),
    ],
)
def test_other_mistakes_are_told(text: str, words: str) -> None:
    # Given one mistake, then one problem on line 1 says what to do.
    problem = the_problem(text)
    assert problem.startswith("1: ")
    assert words in problem


def test_two_different_master_keys_are_a_problem() -> None:
    # Given a key in each section, and they differ, then nobody has to guess which one holds.
    text = "litellm_settings: {master_key: aaaa}\ngeneral_settings: {master_key: bbbb}\n"
    assert "two different master keys" in the_problem(text)


def test_an_unusable_master_key_of_the_environment_is_a_problem() -> None:
    # Given a variable with a space in it, then the problem names the variable.
    problem = the_problem("", {"TALLYGATE_MASTER_KEY": "two words"})
    assert "TALLYGATE_MASTER_KEY" in problem
    assert "two words" not in problem


def test_a_long_list_of_problems_is_cut_at_its_limit() -> None:
    # Given more problems than are shown, then the rest is counted.
    text = "tallygate:\n" + "".join(f"  zzz{number}: 1\n" for number in range(60))
    found = problems(text)
    assert len(found) == PROBLEMS_SHOWN_MAX + 1
    assert found[-1] == "… and 10 more"


def test_a_file_that_is_missing_or_too_long_is_told(tmp_path: Path) -> None:
    # Given no file, or one past the limit, then the error says which and what to do.
    with pytest.raises(ConfigError, match="--config FILE"):
        load_config(tmp_path / "none.yaml", {})
    (tmp_path / "long.yaml").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="longer than 1048576 bytes"):
        load_config(tmp_path / "long.yaml", {})


SECRET = "sk-ant-api03-CANARY"


@pytest.mark.parametrize(
    "text",
    [
        f"model_list:\n  - {SECRET}\n",
        f"{SECRET}: 1\n",
        f"general_settings: {{{SECRET}: 1}}\n",
        f"general_settings: {{master_key: [{SECRET}]}}\n",
        f"general_settings: {{master_key: os.environ/{SECRET}}}\n",
        f"general_settings: {{master_key: '{SECRET} x'}}\n",
        MODEL % f"api_key: '{SECRET} x'",
        MODEL % f"api_key: [{SECRET}]",
        MODEL % f"api_key: *{SECRET}",
        MODEL % f"api_key: !{SECRET} x",
        MODEL % f'api_key: "{SECRET}',
        MODEL % f"api_base: 'https://u:{SECRET}@h'",
        MODEL % f"api_key: k, extra_headers: {{a: {SECRET}}}",
        MODEL % f"timeout: {SECRET}",
        f"tallygate: {{log_level: {SECRET}, nats_url: 'nats://u:{SECRET}@', outbox_full: 1}}",
        f"environment_variables: {{A: {SECRET}}}",
        f"- &{SECRET} a\n- &{SECRET} b\n- %{SECRET}",
    ],
)
def test_no_message_quotes_a_value(text: str) -> None:
    # Given a secret in a wrong place, then the error is there and the secret is not in it.
    assert "CANARY" not in "\n".join(problems(text))


def test_no_repr_shows_a_secret() -> None:
    # Given a configuration with secrets, then neither repr nor rich's form of it shows one.
    config = GatewayConfig(
        path="c",
        master_key="CANARY",
        deployments=(Deployment(deployment_id="a/0", model_name="a", model="a", api_key="CANARY"),),
        settings=Settings(
            nats_url="nats://user:CANARY@nats:4222", upstream_proxy="http://u:CANARY@proxy:3128"
        ),
    )
    shown = repr(config) + str(config) + f"{config}" + repr(config.__rich_repr__())
    assert "CANARY" not in shown
    assert "nats:4222" in shown
