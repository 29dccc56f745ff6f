"""`tallygate claude-code`: what a developer sets so that Claude Code asks through the gateway."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

from services.client.claude_settings import ClaudeSettings, read_claude_settings, settings_file
from services.client.claude_variables import (
    ANTHROPIC_PREFIX,
    CA_CERTIFICATES,
    Mode,
    Setup,
    spoiling_variables,
    variables_without_gateway,
    wanted_variables,
)
from services.client.credentials import KEY_VARIABLE, is_key, read_key
from services.client.gateway import EXIT_UNAUTHENTICATED, ClientError, Gateway
from services.client.options import (
    address_options,
    key_file_option,
    note_in_the_clear,
    note_unused_key,
)
from services.client.output import cell_text, note, print_json
from services.client.own_files import is_readable_by_others
from services.client.profiles import Profile, find_address

__all__ = ["claude_code"]

_MODELS_SHOWN_MAX = 12


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


@click.command(name="claude-code")
@click.option(
    "--write",
    "file",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Write it into a settings file of Claude Code, in which all else stays. Without FILE "
    "that is ~/.claude/settings.json (under $CLAUDE_CONFIG_DIR where that is set).",
)
@click.option(
    "--remove",
    "from_file",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Take the gateway and the key out of a settings file again, so that Claude Code asks "
    "Anthropic directly.",
)
@click.option(
    "--mode",
    type=click.Choice(["subscription", "api-key"]),
    default="subscription",
    show_default=True,
    help="Whose credential pays: the developer's own (a subscription, or an own API key), beside "
    "which the virtual key is sent in a header; or the company's API key, which the gateway has.",
)
@click.option("--model", help="The model that Claude Code begins with.")
@key_file_option(
    f"A file that holds the virtual key, - for standard input. Without it: the profile's, "
    f"${KEY_VARIABLE}, and at a terminal it is asked for."
)
@click.option("--no-check", is_flag=True, help="Do not ask the gateway whether it takes the key.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as a settings file has it.")
@address_options
def claude_code(
    *,
    file: str | None,
    from_file: str | None,
    mode: Mode,
    model: str | None,
    key_file: Path | None,
    no_check: bool,
    as_json: bool,
    url: str | None,
    profile: str | None,
) -> None:
    """Print, or write into a settings file, what Claude Code needs to use a running gateway.

    What is printed is for a shell: eval "$(tallygate claude-code)". It holds the virtual key.

    tallygate keys create --alias ana | tallygate claude-code --write --key-file -
    """
    if from_file is not None:
        if file is not None:
            raise click.UsageError("--write and --remove are two things: give one of them")
        settings = read_claude_settings(settings_file(from_file, os.environ))
        _change(settings, variables_without_gateway(settings.texts), as_json=as_json)
        return
    address, signed_in = find_address(url, profile, os.environ)
    key = _virtual_key(key_file, signed_in)
    ca_file = None if signed_in is None else signed_in.ca_path
    with Gateway(address, key, ca_file) as gateway:
        note_in_the_clear(gateway)
        address = gateway.url
        if not no_check:
            model = _checked_model(gateway, model)
    setup = Setup(address, key, mode, model, None if ca_file is None else str(ca_file))
    if file is None:
        _print(setup, as_json=as_json)
    else:
        _write(setup, settings_file(file, os.environ), as_json=as_json)


def _virtual_key(file: Path | None, signed_in: Profile | None) -> str:
    """Return the virtual key that is meant. Raises ClientError."""
    if file is not None:
        key = read_key(file)
    elif signed_in is not None and not signed_in.is_master_key:
        key = signed_in.key
        note_unused_key()
    else:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key and sys.stdin.isatty():
            key = click.prompt("Virtual key", hide_input=True, err=True).strip()
    if not key:
        raise ClientError(
            f"no virtual key: set ${KEY_VARIABLE}, or name a file with --key-file",
            EXIT_UNAUTHENTICATED,
        )
    if key.startswith(ANTHROPIC_PREFIX):
        raise ClientError(
            "what was given is a credential of Anthropic's, not a virtual key of the gateway; "
            "that one stays where Claude Code has it",
            EXIT_UNAUTHENTICATED,
        )
    if not is_key(key):
        raise ClientError("what was given is no virtual key", EXIT_UNAUTHENTICATED)
    return key


def _checked_model(gateway: Gateway, model: str | None) -> str | None:
    """Ask the gateway with the key; return the model that Claude Code needs to be told of.

    That is the one named, or the only one that there is. Raises ClientError where the key is
    refused.
    """
    try:
        found = msgspec.json.decode(gateway.get("/v1/models"), type=_Models).data
    except msgspec.MsgspecError:
        raise ClientError(
            f"{gateway.url}/v1/models answers, but not as tallygate does: is it the gateway's "
            "address, without /v1?"
        ) from None
    names = [each.id for each in found]
    shown = ", ".join(names[:_MODELS_SHOWN_MAX]) + (", …" if len(names) > _MODELS_SHOWN_MAX else "")
    if model is not None and model not in names:
        note(f"note: the gateway does not list {model} for this key, but {shown or 'no model'}")
    if model is None and len(names) == 1:
        return names[0]
    # A longer list is of a pattern, which the model that Claude Code begins with fits, too.
    if model is None and 0 < len(names) <= _MODELS_SHOWN_MAX:
        note(f"note: the gateway serves {shown}; --model names the one to begin with")
    return model


def _print(setup: Setup, *, as_json: bool) -> None:
    """Print the variables for a shell that has those of this process, or as settings have them."""
    wanted = wanted_variables(setup, os.environ)
    if as_json:
        present = {name: value for name, value in wanted.items() if value is not None}
        print_json(msgspec.json.encode({"env": present}))
        return
    for name, value in wanted.items():
        line = f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"
        sys.stdout.write(f"{line}\n")


def _write(setup: Setup, path: Path, *, as_json: bool) -> None:
    """Write the variables into a settings file, and say what else is to be known."""
    settings = read_claude_settings(path)
    _change(settings, wanted_variables(setup, settings.texts), as_json=as_json)
    if setup.ca_file and settings.texts.get(CA_CERTIFICATES, setup.ca_file) != setup.ca_file:
        note(
            f"note: {CA_CERTIFICATES} is set to another file: add what is in {setup.ca_file} to it"
        )
    if is_readable_by_others(settings.path):
        note(f"note: others may read {settings.path}, and the key in it: chmod 600 changes that")
    if settings.has_key_helper:
        note("note: the file has an apiKeyHelper, whose credential Claude Code sends, too")
    for name in spoiling_variables(setup.mode, os.environ):
        note(f"note: ${cell_text(name)} is set in this shell and would be sent: unset it")


def _change(settings: ClaudeSettings, wanted: dict[str, str | None], *, as_json: bool) -> None:
    """Change the variables in a settings file, and say what was done."""
    before = settings.texts
    changes = {name: value for name, value in wanted.items() if value != before.get(name)}
    if changes:
        settings.write(changes)
    done: dict[str, Any] = {
        "file": str(settings.path),
        "set": [name for name, value in changes.items() if value is not None],
        "removed": [name for name, value in changes.items() if value is None],
    }
    if as_json:
        print_json(msgspec.json.encode(done))
        return
    parts = [f"{word} {', '.join(done[word])}" for word in ("set", "removed") if done[word]]
    note(f"{settings.path}: {'; '.join(parts) or 'nothing to change'}")
