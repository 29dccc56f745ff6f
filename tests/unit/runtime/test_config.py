"""What a right configuration says: the walkthrough's file, models, forwarding, keys, settings."""

from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from schemas.config import ANTHROPIC_API_BASE, GatewayConfig, GlobalBudget, Settings
from services.runtime.config import load_config, read_config

ROOT = Path(__file__).parents[3]

WALKTHROUGH = """\
model_list:
  - model_name: anthropic-claude
    litellm_params:
      model: anthropic/claude-sonnet-4-20250514
  - model_name: claude-3-5-sonnet-20241022
    litellm_params:
      model: anthropic/claude-3-5-sonnet-20241022
  - model_name: claude-3-5-haiku-20241022
    litellm_params:
      model: anthropic/claude-3-5-haiku-20241022
general_settings:
  forward_client_headers_to_llm_api: true   # the client's OAuth token reaches Anthropic
litellm_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"""
MODELS = WALKTHROUGH.partition("general_settings")[0]
LONG_KEY = "sk-0123456789abcdef"


def read(text: str, environment: dict[str, str] | None = None) -> GatewayConfig:
    return read_config(text.encode(), "config.yaml", environment or {})


def one_model(params: str, name: str = "claude-*") -> str:
    return f"model_list:\n  - model_name: {name!r}\n    litellm_params: {{{params}}}\n"


def test_the_walkthrough_s_file_works_word_for_word() -> None:
    # Given the walkthrough's file and its variable, when it is read, then all is as it says.
    config = read(WALKTHROUGH, {"LITELLM_MASTER_KEY": LONG_KEY})
    assert [(d.model_name, d.model) for d in config.deployments] == [
        ("anthropic-claude", "claude-sonnet-4-20250514"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet-20241022"),
        ("claude-3-5-haiku-20241022", "claude-3-5-haiku-20241022"),
    ]
    assert all(d.forward_client_auth and d.api_key is None for d in config.deployments)
    assert all(d.api_base == ANTHROPIC_API_BASE for d in config.deployments)
    assert config.master_key == LONG_KEY
    assert (config.timezone, config.settings, config.notices) == ("UTC", Settings(), ())


def test_the_shipped_example_is_the_walkthrough_s_file_and_starts_on_a_fresh_machine() -> None:
    # Given no environment, when the shipped file is read, then it works; one notice says how.
    path = ROOT / "config.example.yaml"
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(WALKTHROUGH)
    config = load_config(path, {})
    assert config.master_key is None
    assert config.path == str(path)
    (notice,) = config.notices
    assert "LITELLM_MASTER_KEY is not set" in notice


@pytest.mark.parametrize("before", ["litellm_settings:\n  ", ""], ids=["nested", "top level"])
def test_forwarding_can_be_for_some_models_alone(before: str) -> None:
    # Given a list of names in one of its two places, then those models forward and no other.
    names = "{forward_client_headers_to_llm_api: [anthropic-claude, '*haiku*']}"
    config = read(f"{MODELS}{before}model_group_settings: {names}\n")
    assert [d.forward_client_auth for d in config.deployments] == [True, False, True]


def test_a_model_that_no_credential_can_reach_is_told_at_start() -> None:
    # Given models without a key and without forwarding, then a notice for each names its line.
    notices = read(MODELS).notices
    assert [notice.split(":")[1] for notice in notices] == ["2", "5", "8"]
    assert all("401" in notice and "api_key" in notice for notice in notices)


@pytest.mark.parametrize(
    ("name", "model", "expected"),
    [
        ("*", "anthropic/*", "*"),
        ("anthropic/*", "anthropic/*", "*"),
        ("claude-*", "anthropic/*", "claude-*"),
        ("team/claude-*", "anthropic/*", "claude-*"),
        ("fast-*", "anthropic/claude-*-latest", "claude-*-latest"),
        ("claude-*", "anthropic/claude-opus-4", "claude-opus-4"),
    ],
)
def test_wildcards_mean_the_model_that_was_asked_for(name: str, model: str, expected: str) -> None:
    # Given a pattern, then the deployment's model keeps what a client asks for.
    (deployment,) = read(one_model(f"model: {model!r}, api_key: k", name)).deployments
    assert (deployment.model_name, deployment.model) == (name, expected)


def test_several_entries_of_one_name_are_deployments_with_lasting_ids() -> None:
    # Given two entries of one name with another between, then ids count within the name.
    entry = "  - {model_name: %s, litellm_params: {model: anthropic/m, api_key: k}%s}\n"
    text = "model_list:\n" + "".join(
        entry % pair
        for pair in (("a", ""), ("b", ""), ("a", ""), ("a", ", model_info: {id: mine}"))
    )
    assert [d.deployment_id for d in read(text).deployments] == ["a/0", "b/0", "a/1", "mine"]


def test_keys_addresses_and_timeouts_come_from_the_environment() -> None:
    # Given variables in place of values, when it is read, then they are filled in by their type.
    config = read(
        one_model("model: os.environ/M, api_key: os.environ/K, api_base: os.environ/B, timeout: 7")
        + "litellm_settings: {request_timeout: os.environ/T}\n"
        "tallygate: {outbox_bytes_max: os.environ/O, oauth_hosts: [os.environ/H]}\n",
        {"M": "anthropic/m", "K": "sk-x", "B": "https://a.example/v1/", "T": "9", "O": "70000"}
        | {"H": "A.Example"},
    )
    (deployment,) = config.deployments
    assert (deployment.model, deployment.api_key, deployment.timeout_s) == ("m", "sk-x", 7.0)
    assert deployment.api_base == "https://a.example"
    assert config.settings.outbox_bytes_max == 70_000
    assert config.settings.oauth_hosts == ("a.example",)


def test_all_keys_together_have_a_budget_as_litellm_writes_it() -> None:
    # Given max_budget and its window in litellm_settings, then that is the budget, exactly.
    entry = one_model("model: anthropic/m, api_key: k")
    text = entry + "litellm_settings: {max_budget: 0.1, budget_duration: 30d}"
    assert read(text).budget == GlobalBudget(Decimal("0.1"), "30d")
    assert read(entry + "litellm_settings: {max_budget: 5}").budget == GlobalBudget(Decimal(5))
    assert read(entry).budget is None


def test_the_default_timeout_is_litellm_s_request_timeout() -> None:
    # Given a request_timeout, then a model that names none has it.
    text = one_model("model: anthropic/m, api_key: k") + "litellm_settings: {request_timeout: 90}"
    assert read(text).deployments[0].timeout_s == 90.0


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://127.0.0.1:9/", "http://127.0.0.1:9"),
        ("http://[::1]:9", "http://[::1]:9"),
        ("http://localhost:9", "http://localhost:9"),
        ("http://Upstream:8000", "http://upstream:8000"),
        ("https://gw.example/anthropic/v1/messages", "https://gw.example/anthropic"),
    ],
)
def test_plain_http_is_for_loopback_and_hosts_that_are_listed(base: str, expected: str) -> None:
    # Given an address that may be used, then it is kept in its normal form.
    text = one_model(f"model: anthropic/m, api_key: k, api_base: {base!r}")
    config = read(text + "tallygate: {insecure_http_hosts: [upstream]}\n")
    assert config.deployments[0].api_base == expected


def test_forwarding_to_a_host_that_is_not_listed_is_told_at_start() -> None:
    # Given forwarding and another host, then a notice; listed under oauth_hosts, then none.
    text = one_model("model: anthropic/m, api_base: 'https://gw.example'")
    text += "general_settings: {forward_client_headers_to_llm_api: true}\n"
    (notice,) = read(text).notices
    assert "gw.example" in notice
    assert "oauth_hosts" in notice
    assert read(text + "tallygate: {oauth_hosts: [gw.example]}").notices == ()


@pytest.mark.parametrize(
    ("file", "environment", "expected"),
    [
        ("general_settings: {master_key: file-key-0123456789}", {}, "file-key-0123456789"),
        (
            "\n".join(
                f"{section}: {{master_key: same-key-0123456789}}"
                for section in ("general_settings", "litellm_settings")
            ),
            {"LITELLM_MASTER_KEY": "other"},
            "same-key-0123456789",
        ),
        ("", {"LITELLM_MASTER_KEY": "l" * 20, "TALLYGATE_MASTER_KEY": "t" * 20}, "t" * 20),
        (
            "litellm_settings: {master_key: os.environ/X}",
            {"LITELLM_MASTER_KEY": "l" * 20},
            "l" * 20,
        ),
        ("litellm_settings: {master_key: os.environ/X}", {"X": ""}, None),
        ("litellm_settings: {master_key: ''}", {}, None),
    ],
)
def test_the_master_key_is_the_file_s_else_the_environment_s(
    file: str, environment: dict[str, str], expected: str | None
) -> None:
    # Given a file and an environment, then the first of the places that names a key is used.
    assert read(file, environment).master_key == expected


def test_a_master_key_that_can_be_guessed_is_warned_of() -> None:
    # Given the well-known key of tutorials, then it works, with a notice that does not quote it.
    config = read("litellm_settings:\n  master_key: sk-1234\n")
    assert config.master_key == "sk-1234"
    assert any(":2:" in notice and "guessed" in notice for notice in config.notices)
    assert "sk-1234" not in "".join(config.notices)


def test_a_database_is_accepted_with_a_notice_that_says_where_the_ledger_is() -> None:
    # Given the line of every LiteLLM tutorial, then the file works and the log says what is so.
    config = read('general_settings:\n  database_url: "postgresql://u:secret@db/l"\n' + MODELS)
    notice = next(text for text in config.notices if "database_url" in text)
    assert notice.startswith("config.yaml:2: ")
    assert "data folder" in notice
    assert "secret" not in notice


def test_a_refused_key_that_switches_a_thing_off_is_a_notice() -> None:
    # Given refused keys with values that ask for what is so anyway, then the file works.
    text = "litellm_settings: {cache: false, callbacks: [], budget_reset_time: '00:00'}\n"
    text += "router_settings: {enable_weighted_failover: true, weights: null}\n"
    notices = [text for text in read(text).notices if "not supported" in text]
    assert len(notices) == 5
    assert all("changes nothing" in notice for notice in notices)


def test_anchors_and_merge_keys_work() -> None:
    # Given shared parameters in an anchor, then a merge brings them in and own keys win.
    config = read(
        "model_list:\n"
        "  - model_name: a\n"
        "    litellm_params: &shared {model: anthropic/a, api_key: k, timeout: 5}\n"
        "  - model_name: b\n"
        "    litellm_params: {<<: *shared, model: anthropic/b}\n"
    )
    assert [(d.model, d.api_key, d.timeout_s) for d in config.deployments] == [
        ("a", "k", 5.0),
        ("b", "k", 5.0),
    ]


def test_every_setting_can_be_given_and_null_means_its_default() -> None:
    # Given all settings at their defaults written out, and all null, then both are the defaults.
    names = Settings.__struct_fields__
    written = {name: getattr(Settings(), name) for name in names}
    listed = {name: list(v) if isinstance(v, tuple) else v for name, v in written.items()}
    assert read(yaml.safe_dump({"tallygate": listed})).settings == Settings()
    assert read(yaml.safe_dump({"tallygate": dict.fromkeys(names)})).settings == Settings()
    assert read("tallygate:\nmodel_list:\n").deployments == ()
