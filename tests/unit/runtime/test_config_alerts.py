"""`alerts:` of the configuration: who is told of what, with every slip named."""

import pytest

from schemas.alerts import ALERT_TYPES_DEFAULT, AlertDestination
from schemas.errors import ConfigError
from services.runtime.config import read_config
from services.runtime.config_alerts import DESTINATIONS_MAX

MODELS = """\
model_list:
  - model_name: m
    litellm_params: {model: anthropic/claude-sonnet-4-5, api_key: sk-ant-api03-x}
"""
ENVIRONMENT = {"SLACK_URL": "https://hooks.slack.example/T/B/secret-part", "MAIL_PW": "pw-secret"}
HOOK = "webhook: {url: 'https://ops.example/hook'}"
MAIL = "host: mail.example, from: a@b.example, to: [ops@corp.example]"


def alerts(text: str) -> tuple[AlertDestination, ...]:
    return read_config((MODELS + text).encode(), "config.yaml", ENVIRONMENT).alerts


def test_destinations_are_read_and_show_no_secret() -> None:
    # Given one destination of each kind, then each is as the file says, with the port that its
    # security has, and no address of a webhook and no password in what is printed.
    found = alerts(
        "alerts:\n"
        "  - name: ops\n"
        "    webhook: {url: 'https://ops.example/hook', secret: 0123456789abcdef}\n"
        "    events: [budget.*, guardrail.triggered, budget.*]\n"
        "    teams: [blue]\n"
        "  - {name: chat, slack: {url: os.environ/SLACK_URL}}\n"
        f"  - {{name: mail, email: {{{MAIL}, username: u, password: os.environ/MAIL_PW}}}}\n"
        f"  - {{name: plain, events: ['*'], email: {{{MAIL}, security: none, port: 2525}}}}\n"
    )
    ops, chat, mail, plain = found
    assert (ops.kind, ops.events, ops.teams) == (
        "webhook",
        ("budget.*", "guardrail.noticed"),
        ("blue",),
    )
    assert ops.secret == "0123456789abcdef"
    assert (chat.kind, chat.url) == ("slack", ENVIRONMENT["SLACK_URL"])
    assert chat.events == ALERT_TYPES_DEFAULT
    assert mail.email is not None
    assert (mail.email.port, mail.email.security, mail.email.password) == (
        587,
        "starttls",
        "pw-secret",
    )
    assert plain.email is not None
    assert (plain.email.port, plain.email.recipients) == (2525, ("ops@corp.example",))
    assert "secret" not in repr(found) + repr(mail.email)
    assert alerts("") == ()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{name: a}", "one of webhook, slack and email"),
        (f"{{name: a, {HOOK}, slack: {{url: 'https://x.example'}}}}", "one of webhook, slack"),
        (f"{{name: 'a b', {HOOK}}}", "name must be 1 to 64 letters"),
        (f"{{{HOOK}}}", "name must be 1 to 64 letters"),
        (f"{{name: a, {HOOK}, events: [budget.excceeded]}}", "did you mean budget.exceeded?"),
        (f"{{name: a, {HOOK}, event: [budget.*]}}", "did you mean events?"),
        (f"{{name: a, {HOOK}, teams: blue}}", "teams must be a list of texts"),
        ("{name: a, webhook: {}}", "webhook.url is missing"),
        ("{name: a, webhook: {url: 'ftp://ops.example'}}", "must be an address with http"),
        ("{name: a, webhook: {url: 'http://[::1'}}", "must be an address with http"),
        ("{name: a, webhook: {url: 'http://x.example:99999'}}", "must be an address with http"),
        ("{name: a, webhook: {url: 'https://u:p@ops.example'}}", "neither a user nor blanks"),
        ("{name: a, slack: {url: os.environ/NOT_SET}}", "NOT_SET is not set"),
        ("{name: a, webhook: {url: 'https://x.example', secret: short}}", "at least 16"),
        (
            f"{{name: a, email: {{{MAIL}, password: pw-secret, username: u, security: none}}}}",
            "TLS",
        ),
        (f"{{name: a, email: {{{MAIL}, username: u}}}}", "both username and password"),
        ("{name: a, email: {host: m.example, from: a@b.example, to: [nobody]}}", "to must be a"),
        ("{name: a, email: {host: m.example, from: a, to: [a@b.example]}}", "from must be a mail"),
        ("{name: a, email: {from: a@b.example, to: [a@b.example]}}", "host must be"),
        ("text", "must be a mapping"),
        (f"{{name: twice, {HOOK}}}\n  - {{name: twice, {HOOK}}}", "that of an entry before it"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is_quoted(entry: str, says: str) -> None:
    # Given an entry with a slip, then the message says what is wrong, and quotes no secret.
    with pytest.raises(ConfigError, match=says) as caught:
        alerts(f"alerts:\n  - {entry}\n")
    assert "secret" not in str(caught.value).replace(".secret", "")


def test_there_are_not_too_many_destinations() -> None:
    # Given one entry more than there may be, then the file is refused.
    entries = [f"  - {{name: d{number}, {HOOK}}}\n" for number in range(DESTINATIONS_MAX + 1)]
    with pytest.raises(ConfigError, match="more than 16"):
        alerts("alerts:\n" + "".join(entries))
