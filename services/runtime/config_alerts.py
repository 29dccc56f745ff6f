"""Reading `alerts:`: who is told of what, and how."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from schemas.alerts import ALERT_TYPES, ALERT_TYPES_DEFAULT, AlertDestination, EmailSettings
from services.runtime.config_keys import nearest
from services.runtime.config_prices import read_words
from services.runtime.config_reader import ConfigReader
from services.runtime.yaml_lines import Node

__all__ = ["DESTINATIONS_MAX", "SECRET_LENGTH_MIN", "read_alerts"]

DESTINATIONS_MAX = 16
"""A file has at most so many entries: each follows the streams for itself."""
SECRET_LENGTH_MIN = 16
"""A webhook's secret has at least so many characters: a short one can be guessed."""
_LISTED_MAX = 100
_TEXT_MAX = 256
_URL_MAX = 2048
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ADDRESS = re.compile(r"[^\s@,;<>\"]{1,128}@[^\s@,;<>\"]{1,128}")
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_ALIASES = {"guardrail.triggered": "guardrail.noticed"}
"""Each of the one is an event; people are told of their sums."""
_KINDS = ("webhook", "slack", "email")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_Security = Literal["starttls", "tls", "none"]
_Texts = Annotated[tuple[str, ...], msgspec.Meta(max_length=_LISTED_MAX)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


def read_alerts(reader: ConfigReader, node: Node | None) -> tuple[AlertDestination, ...]:
    """Return the entries of `alerts:`; what is wrong is noted, and then left out."""
    found: list[AlertDestination] = []
    for place, item in enumerate(reader.items(node, "alerts", DESTINATIONS_MAX)):
        where = f"alerts[{place}]"
        destination = _read_destination(reader, item, where)
        if destination is None:
            continue
        if any(destination.name == other.name for other in found):
            reader.problem(
                item.line,
                f"{where}.name is that of an entry before it: where each one is, is kept by name",
            )
            continue
        found.append(destination)
    return tuple(found)


def _read_destination(reader: ConfigReader, item: Node, where: str) -> AlertDestination | None:
    if not isinstance(item.value, Mapping):
        reader.problem(item.line, f"{where} must be a mapping: name, and webhook, slack or email")
        return None
    given = reader.section(item, "alerts", where)
    count = len(reader.problem_texts)
    name = read_words(reader, given.get("name"), f"{where}.name", _TEXT_MAX)
    if name is None or not _NAME.fullmatch(name):
        reader.problem(
            item.line, f"{where}.name must be 1 to 64 letters, digits, - or _, unique in the file"
        )
    events = _read_events(reader, given.get("events"), f"{where}.events")
    scopes = {
        scope: reader.typed(given.get(scope), _Texts, f"{where}.{scope}") or ()
        for scope in ("teams", "users", "keys")
    }
    kinds = [kind for kind in _KINDS if kind in given]
    if len(kinds) != 1:
        reader.problem(item.line, f"{where} must have one of webhook, slack and email, and no more")
        return None
    (kind,) = kinds
    fields = _read_email if kind == "email" else _read_http
    more = fields(reader, given[kind], f"{where}.{kind}")
    if len(reader.problem_texts) > count or name is None or more is None:
        return None
    return AlertDestination(name=name, kind=kind, events=events, **scopes, **more)  # type: ignore[arg-type]


def _read_events(reader: ConfigReader, node: Node | None, where: str) -> tuple[str, ...]:
    wanted = reader.typed(node, _Texts, where)
    if node is None or wanted is None:
        return ALERT_TYPES_DEFAULT
    families = {kind.partition(".")[0] + ".*" for kind in ALERT_TYPES}
    known = (*ALERT_TYPES, *sorted(families), "*")
    wanted = tuple(_ALIASES.get(text, text) for text in wanted)
    for text in wanted:
        if text not in known:
            like = nearest(text, known)
            advice = f"did you mean {like}?" if like else "docs/alerts.md lists them"
            reader.problem(node.line, f"{where} has a type of events that is not known: {advice}")
    return tuple(dict.fromkeys(wanted))


def _read_http(reader: ConfigReader, node: Node, where: str) -> dict[str, object] | None:
    """Return the fields of a webhook, or of Slack: its address, which counts as a secret."""
    section = "alert_webhook" if where.endswith("webhook") else "alert_slack"
    given = reader.section(node, section, where)
    url = reader.text(given.get("url"), f"{where}.url")
    secret = reader.text(given.get("secret"), f"{where}.secret")
    if url is None:
        if given.get("url") is None:
            reader.problem(node.line, f"{where}.url is missing: where alerts are sent to")
        return None
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or len(url) > _URL_MAX:
        reader.problem(node.line, f"{where}.url must be an address with http:// or https://")
        return None
    if parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        reader.problem(
            node.line, f"{where}.url must hold neither a user nor blanks nor other than ASCII"
        )
        return None
    if secret is not None and len(secret) < SECRET_LENGTH_MIN:
        reader.problem(
            node.line, f"{where}.secret must have at least {SECRET_LENGTH_MIN} characters"
        )
        return None
    return {"url": url, "secret": secret}


def _read_email(reader: ConfigReader, node: Node, where: str) -> dict[str, object] | None:
    given = reader.section(node, "alert_email", where)
    count = len(reader.problem_texts)
    read = reader.typed(given.get("security"), _Security, f"{where}.security")
    security: _Security = read or "starttls"
    port = reader.typed(given.get("port"), _Port, f"{where}.port") or _PORTS[security]
    texts = {
        name: reader.text(given.get(name), f"{where}.{name}")
        for name in ("host", "from", "username", "password")
    }
    recipients = reader.typed(given.get("to"), _Texts, f"{where}.to")
    if len(reader.problem_texts) > count:
        return None
    host, sender = texts["host"], texts["from"]
    if host is None or not _HOST.fullmatch(host):
        reader.problem(node.line, f"{where}.host must be the name of a mail server")
    elif sender is None or not _ADDRESS.fullmatch(sender):
        reader.problem(node.line, f"{where}.from must be a mail address")
    elif not recipients or not all(_ADDRESS.fullmatch(each) for each in recipients):
        reader.problem(node.line, f"{where}.to must be a list of mail addresses")
    elif (texts["username"] is None) != (texts["password"] is None):
        reader.problem(node.line, f"{where} must have both username and password, or neither")
    elif texts["password"] is not None and security == "none":
        reader.problem(
            node.line,
            f"{where}: a password is never sent without TLS: set security to "
            f"{' or '.join(get_args(_Security)[:2])}",
        )
    else:
        settings = EmailSettings(
            host=host,
            port=port,
            sender=sender,
            recipients=tuple(recipients),
            security=security,
            username=texts["username"],
            password=texts["password"],
        )
        return {"email": settings}
    return None
