"""The options that all client commands share, and what they make of them."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from services.client.credentials import KEY_VARIABLE, MASTER_KEY_VARIABLES, find_key
from services.client.gateway import Gateway
from services.client.output import note
from services.client.profiles import (
    PROFILE_VARIABLE,
    URL_DEFAULT,
    URL_VARIABLE,
    complete_profile,
    find_address,
)

__all__ = [
    "address_options",
    "csv_option",
    "gateway_options",
    "gateway_options_with_key",
    "json_option",
    "key_file_option",
    "note_in_the_clear",
    "note_unused_key",
    "raw_option",
]

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON."
)


csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for programs.")
raw_option = click.option(
    "--raw",
    is_flag=True,
    help="CSV: leave texts that a spreadsheet would take for formulas as they are.",
)


def address_options(command: Command) -> Command:
    """Add the options that say which gateway is meant: `url` and `profile`."""
    for option in (
        click.option(
            "--profile",
            shell_complete=complete_profile,
            help="The gateway that `tallygate login` gave this name, and the key for it. "
            f"Without it ${PROFILE_VARIABLE}.",
        ),
        click.option(
            "--url",
            help=f"Where the gateway is. Without it: ${URL_VARIABLE}, the one that was signed in "
            f"to with `tallygate login`, or {URL_DEFAULT}.",
        ),
    ):
        command = option(command)
    return command


def key_file_option(help_text: str) -> Callable[[Command], Command]:
    """Return what adds the option that names a file with a credential: `key_file`."""
    return click.option(
        "--key-file",
        type=click.Path(path_type=Path, allow_dash=True),
        help=help_text,
    )


def gateway_options_with_key(command: Callable[..., None]) -> Callable[..., None]:
    """Add the same options for a command that virtual keys are meant for more than admins."""
    return gateway_options(command, virtual_first=True)


def gateway_options(
    command: Callable[..., None], *, virtual_first: bool = False
) -> Callable[..., None]:
    """Add the options that say which gateway is meant and where the credential for it is.

    The command gets the open gateway as its argument `gateway` in place of them.
    """

    @wraps(command)
    def with_gateway(
        url: str | None,
        profile: str | None,
        key_file: Path | None,
        master_key_file: Path | None,
        data: Path,
        **values: Any,
    ) -> None:
        if url is not None and profile is not None:
            raise click.UsageError("--url and --profile both say which gateway: give one of them")
        key_file = key_file or master_key_file
        address, signed_in = find_address(url, profile, os.environ)
        if key_file is None and signed_in is not None:
            key = signed_in.key
            note_unused_key()
        else:
            key = find_key(key_file, data, os.environ, virtual_first=virtual_first)
        ca_file = None if signed_in is None else signed_in.ca_path
        with Gateway(address, key, ca_file) as gateway:
            note_in_the_clear(gateway)
            command(gateway=gateway, **values)

    data_option = click.option(
        "--data",
        type=click.Path(path_type=Path),
        default=Path("data"),
        envvar="TALLYGATE_DATA",
        show_default="./data",
        help="The gateway's data folder, where a generated master key is.",
    )
    names = [f"${name}" for name in MASTER_KEY_VARIABLES]
    names.insert(0 if virtual_first else len(names), f"${KEY_VARIABLE}")
    file_option = key_file_option(
        "A file that holds the credential, - for standard input: the master key, or a virtual key "
        f"that may do it. Without it: the profile's, {', '.join(names)}, or the one in the data "
        "folder."
    )
    # The name that it had while commands took the master key alone.
    former = click.option("--master-key-file", type=click.Path(path_type=Path), hidden=True)
    return address_options(file_option(former(data_option(with_gateway))))


def note_unused_key() -> None:
    """Say so where a key in the environment is not used, since a profile has its own."""
    if os.environ.get(KEY_VARIABLE):
        note(
            f"note: ${KEY_VARIABLE} is not used: the profile that was signed in to has its own key"
        )


def note_in_the_clear(gateway: Gateway) -> None:
    """Say so where a key goes over a network unencrypted."""
    if gateway.is_in_the_clear:
        note(f"note: the key goes to {gateway.url} unencrypted; https would protect it")
