"""`guardrails:` of the configuration: LiteLLM's form, whole or not at all."""

import msgspec
import pytest

from schemas.errors import ConfigError
from schemas.guardrails import TEXT_KINDS, Guardrail, RequestRules, Webhook
from services.guardrails import KINDS
from services.guardrails.gate import Gate
from services.guardrails.lazy import LazyGate
from services.runtime.config import read_config
from services.runtime.config_changes import changed_keys
from services.runtime.guardrail_scanners import scanner_of, warm_scanners

MODELS = """
model_list:
  - model_name: claude-*
    litellm_params: {model: anthropic/*, api_key: sk-ant-api03-test}
"""
RULES = "guardrail: request_rules, mode: pre_call, max_tokens_max: 9"


def guardrails(*entries: str) -> tuple[Guardrail, ...]:
    text = MODELS + "guardrails:\n" + "".join(f"  - {entry}\n" for entry in entries)
    config = read_config(text.encode(), "config.yaml", {})
    before = read_config(MODELS.encode(), "config.yaml", {})
    assert changed_keys(before, config) == (("guardrails",) if entries else ())
    return config.guardrails


def test_guardrails_are_read_in_litellms_form() -> None:
    # Given entries with all that they may have, then they are what the file says.
    found = guardrails(
        f"{{guardrail_name: a, litellm_params: {{{RULES}}}}}",
        "{guardrail_name: b c, guardrail_info: {x: 1}, litellm_params: {guardrail: request_rules, "
        "mode: [pre_call, during_call], default_on: true, message: ask us, tools_denied: [Bash], "
        "betas_allowed: [], request_bytes_max: 5000, system_required: true, action: block}}",
    )
    rules = RequestRules(
        tools_denied=("Bash",), betas_allowed=(), request_bytes_max=5000, system_required=True
    )
    assert found == (
        Guardrail(name="a", kind="request_rules", rules=RequestRules(max_tokens_max=9)),
        Guardrail(name="b c", kind="request_rules", default_on=True, message="ask us", rules=rules),
    )


def test_guardrails_that_look_at_texts_have_settings_of_their_own() -> None:
    # Given a block list with a variable of the environment in it, then its settings are those of
    # the file, filled in, and nothing that prints the configuration shows them.
    text = (
        "guardrails:\n  - guardrail_name: a\n    litellm_params:\n      guardrail: block_list\n"
        "      mode: pre_call\n      action: mask\n      lists:\n"
        "        - {name: x, words: [os.environ/WORD]}\n"
    )
    config = read_config((MODELS + text).encode(), "config.yaml", {"WORD": "Falcon"})
    (found,) = config.guardrails
    assert (found.kind, found.action) == ("block_list", "mask")
    assert msgspec.json.decode(found.settings) == {"lists": [{"name": "x", "words": ["Falcon"]}]}
    assert [each.rule for each in scanner_of(found).scan("a falcon")] == ["x"]
    assert "Falcon" not in repr(config)
    with pytest.raises(ConfigError, match="WORD is not set"):
        read_config((MODELS + text).encode(), "config.yaml", {})


def test_settings_are_checked_without_what_only_scanning_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a guardrail about secrets, when the configuration is read, then all kinds are those that
    # there are, and the patterns are not compiled before a text is looked at.
    assert TEXT_KINDS == KINDS
    compiled: list[Gate] = []

    def compile_all() -> Gate:
        compiled.append(Gate([], trusted=True))
        return compiled[0]

    gate = LazyGate(compile_all)
    monkeypatch.setattr("services.guardrails.chosen.own_gate", lambda: gate)
    (found,) = guardrails(
        "{guardrail_name: a, litellm_params: {guardrail: secrets, mode: pre_call, "
        "rules: [generic-api-key]}}"
    )
    assert scanner_of(found)._gate is gate  # type: ignore[attr-defined]
    assert compiled == []
    warm_scanners([found, Guardrail(name="b", kind="request_rules")])
    assert compiled
    with pytest.raises(ConfigError, match="did you mean generic-api-key"):
        guardrails(
            "{guardrail_name: a, litellm_params: {guardrail: secrets, mode: pre_call, "
            "rules: [generic-api-keys]}}"
        )


def test_a_service_is_named_as_litellm_does_or_by_its_address() -> None:
    # Given LiteLLM's generic guardrail API and a webhook, then both are services to be asked, and
    # nothing that prints the configuration shows their keys.
    found = guardrails(
        "{guardrail_name: a, litellm_params: {guardrail: generic_guardrail_api, mode: pre_call, "
        "api_base: 'https://guard.example.com/', api_key: not-to-be-seen, "
        "unreachable_fallback: fail_open}}",
        "{guardrail_name: b, litellm_params: {guardrail: webhook, mode: during_call, timeout_s: 2, "
        "url: 'http://127.0.0.1:9/check', signing_key: not-to-be-seen-either}}",
    )
    assert [each.webhook for each in found] == [
        Webhook(
            url="https://guard.example.com/beta/litellm_basic_guardrail_api",
            api_key="not-to-be-seen",
            unreachable_fallback="fail_open",
        ),
        Webhook(url="http://127.0.0.1:9/check", signing_key="not-to-be-seen-either", timeout_s=2.0),
    ]
    assert "not-to-be-seen" not in repr(found) + str(found)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("mode: pre_call, max_tokens_max: 9", "guardrail is missing"),
        ("guardrail: request_rules, max_tokens_max: 9", "mode is missing"),
        ("guardrail: request_rules, mode: pre_call", "has no rule"),
        ("guardrail: request_rule, mode: pre_call", "did you mean request_rules"),
        ("guardrail: bedrock, mode: pre_call", "LiteLLM's bedrock is not supported"),
        ("guardrail: tool_permission, mode: pre_call", "tools_denied"),
        (
            "guardrail: request_rules, mode: logging_only, action: block, max_tokens_max: 9",
            "lets everything pass",
        ),
        (f"{RULES}, action: mask", "mask nothing"),
        (f"{RULES.replace('pre_call', 'post_call')}", "looks at requests alone"),
        (
            "guardrail: block_list, mode: post_call, action: block, lists: [{name: a, words: [a]}]",
            "an answer goes on as it comes",
        ),
        ("guardrail: webhook, mode: pre_call", "must name the service"),
        (
            "guardrail: webhook, mode: pre_call, url: 'https://a', api_base: 'https://a'",
            "not by both",
        ),
        ("guardrail: webhook, mode: pre_call, url: 'http://guard.example.com/x'", "must be https"),
        ("guardrail: webhook, mode: pre_call, url: 'https://a/x?y'", "query"),
        ("guardrail: webhook, mode: pre_call, url: 'https://a', timeout_s: 100", "from 0.1 to 60"),
        ("guardrail: webhook, mode: pre_call, url: 'https://a', signing_key: x", "at most 1024"),
        ("guardrail: webhook, mode: pre_call, url: 'https://a', action: mask", "service decides"),
        ("guardrail: block_list, mode: pre_call", "lists"),
        ("guardrail: block_list, mode: pre_call, list: []", "did you mean lists"),
        ("guardrail: litellm_content_filter, mode: pre_call", "write guardrail: block_list"),
        (f"{RULES}, max_token: 3", "did you mean max_tokens_max"),
        (f"{RULES}, default_on: perhaps", "default_on must be true or false"),
        (f"{RULES}, system_required: 3", "system_required must be true or false"),
        ("guardrail: request_rules, mode: at_night, max_tokens_max: 9", "mode must be one of"),
        ("guardrail: request_rules, mode: {tags: {}}, max_tokens_max: 9", "modes by tags"),
        ("guardrail: request_rules, mode: pre_call, max_tokens_max: 0", "from 1 to"),
        (f'{RULES}, message: "a\\nb"', "one line"),
    ],
)
def test_what_is_wrong_is_said(params: str, said: str) -> None:
    # Given an entry that cannot be meant, when the file is read, then the error says why.
    with pytest.raises(ConfigError, match=said):
        guardrails(f"{{guardrail_name: a, litellm_params: {{{params}}}}}")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["a"], "must be a mapping"),
        (["{guardrail_name: a}"], "litellm_params is missing"),
        ([f"{{litellm_params: {{{RULES}}}}}"], "guardrail_name is missing"),
        (2 * [f"{{guardrail_name: a, litellm_params: {{{RULES}}}}}"], "has the guardrail_name"),
        (51 * ["{guardrail_name: a}"], "more than 50"),
    ],
)
def test_entries_are_whole_and_each_has_its_name(entries: list[str], said: str) -> None:
    # Given entries without a part, or too many, then nothing starts.
    with pytest.raises(ConfigError, match=said):
        guardrails(*entries)
