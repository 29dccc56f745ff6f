"""`tallygate doctor --client`: how Claude Code is set up on this machine."""

import http.client
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from services.client.claude_settings import read_claude_settings, settings_files
from services.client.gateway import ClientError
from services.client.trust import tls_context
from services.commands.doctor_check import Check, Place, failed, fine, warned

__all__ = ["check_client"]

ANSWER_TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 4 * 1024 * 1024
_KEY_HEADERS = ("x-litellm-api-key", "authorization", "x-api-key")
_UNAUTHENTICATED = 401


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def check_client(place: Place) -> list[Check]:
    """Look at the variables that Claude Code reads, and use its key once, for the models.

    Those of its settings files go before those of the environment.
    """
    checks = [_program()]
    environment = dict(place.environment)
    for path in settings_files(environment):
        try:
            environment |= read_claude_settings(path).texts
        except ClientError as error:
            return [*checks, failed("settings of Claude Code", str(error), "mend the file")]
    base = environment.get("ANTHROPIC_BASE_URL", "")
    if not base:
        return [
            *checks,
            failed(
                "ANTHROPIC_BASE_URL",
                "is not set: Claude Code goes to api.anthropic.com, past the gateway",
                "let `tallygate claude-code --write` set it, or set it where Claude Code runs "
                "(docs/claude-code.md says more)",
                (
                    f"export ANTHROPIC_BASE_URL={place.url}",
                    'export ANTHROPIC_CUSTOM_HEADERS="x-litellm-api-key: Bearer sk-…"',
                ),
            ),
        ]
    checks.append(fine("ANTHROPIC_BASE_URL", base))
    key = _key_of(environment)
    if key is None:
        checks.append(
            failed(
                "virtual key",
                "neither ANTHROPIC_CUSTOM_HEADERS nor ANTHROPIC_AUTH_TOKEN nor ANTHROPIC_API_KEY "
                "holds one",
                "put in the key that your administrator gave you",
                ('export ANTHROPIC_CUSTOM_HEADERS="x-litellm-api-key: Bearer sk-…"',),
            )
        )
        return checks
    return [*checks, *_use(base, *key, environment)]


def _program() -> Check:
    path = shutil.which("claude")
    if path is None:
        remedy = "install it, or run this where it is"
        return warned("Claude Code", "there is no claude on the PATH", remedy)
    try:
        told = subprocess.run(  # noqa: S603 - the program that the user runs, too
            [path, "--version"], capture_output=True, timeout=10, check=True, text=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return warned("Claude Code", f"{path} does not tell its version ({error})", "install it")
    return fine("Claude Code", f"{told[:80]} ({path})")


def _key_of(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the header that carries the key, and its value, as Claude Code would send it."""
    sent: dict[str, str] = {}
    for line in environment.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines():
        name, _, value = line.partition(":")
        sent[name.strip().lower()] = value.strip()
    if token := environment.get("ANTHROPIC_AUTH_TOKEN"):
        sent.setdefault("authorization", f"Bearer {token}")
    if key := environment.get("ANTHROPIC_API_KEY"):
        sent.setdefault("x-api-key", key)
    for name in _KEY_HEADERS:
        if sent.get(name):
            return name, sent[name]
    return None


def _use(base: str, header: str, value: str, environment: Mapping[str, str]) -> list[Check]:
    try:
        ca_file = environment.get("NODE_EXTRA_CA_CERTS")
        status, body = _get(base, "/v1/models", {header: value}, ca_file)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return [
            failed(
                "gateway",
                f"{base} does not answer ({error})",
                "is the address right, the gateway up, and nothing in between that stops it?",
            )
        ]
    if status == _UNAUTHENTICATED:
        detail = f"is refused: {_message(body)}"
        return [failed("virtual key", detail, "ask your administrator for a key that is in force")]
    try:
        models = [each.id for each in msgspec.json.decode(body, type=_Models).data]
    except msgspec.MsgspecError:
        detail = f"{base}/v1/models answers {status}: {_message(body)}"
        remedy = "is ANTHROPIC_BASE_URL the address of the gateway, without /v1?"
        return [failed("gateway", detail, remedy)]
    checks = [fine("virtual key", f"is accepted; models: {', '.join(models) or 'none by name'}")]
    wanted = environment.get("ANTHROPIC_MODEL")
    if wanted and wanted not in models:
        checks.append(
            warned(
                "ANTHROPIC_MODEL",
                f"{wanted} is none of the models that are listed",
                "give one of them, unless a pattern of the gateway (claude-*) serves it",
            )
        )
    return checks


def _get(base: str, path: str, headers: dict[str, str], ca_file: str | None) -> tuple[int, bytes]:
    split = urlsplit(base)
    host, port = split.hostname or "", split.port
    connection: http.client.HTTPConnection
    if split.scheme == "https":
        context = tls_context(Path(ca_file) if ca_file else None)
        connection = http.client.HTTPSConnection(
            host, port, timeout=ANSWER_TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", split.path.rstrip("/") + path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(ANSWER_BYTES_MAX)
    finally:
        connection.close()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
