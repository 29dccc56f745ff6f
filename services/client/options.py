"""The options that all client commands share, and what they make of them."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import rich_click as click

from services.client.gateway import Gateway, find_master_key
from services.client.output import note

__all__ = [
    "KEY_VARIABLE",
    "URL_DEFAULT",
    "gateway_options",
    "gateway_options_with_key",
    "json_option",
    "note_in_the_clear",
]

URL_DEFAULT = "http://127.0.0.1:4000"
KEY_VARIABLE = "TALLYGATE_KEY"
"""Holds a virtual key for the commands that need no master key."""

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON."
)


def gateway_options_with_key(command: Callable[..., None]) -> Callable[..., None]:
    """Add the same options, and one for a virtual key, which is enough for the command."""
    option = click.option(
        "--key-file",
        type=click.Path(path_type=Path),
        help=f"A file that holds a virtual key with the permission `analyst`, in place of the "
        f"master key. So does ${KEY_VARIABLE}.",
    )
    return option(gateway_options(command, key_is_enough=True))


def gateway_options(
    command: Callable[..., None], *, key_is_enough: bool = False
) -> Callable[..., None]:
    """Add the options that say which gateway is meant and where its master key is.

    The command gets the open gateway as its argument `gateway` in place of them.
    """

    @wraps(command)
    def with_gateway(
        url: str,
        master_key_file: Path | None,
        data: Path,
        key_file: Path | None = None,
        **values: Any,
    ) -> None:
        file = key_file or master_key_file
        key = os.environ.get(KEY_VARIABLE) if key_is_enough and file is None else None
        with _open_gateway(url, file, data, key) as gateway:
            command(gateway=gateway, **values)

    for option in (
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            default=Path("data"),
            envvar="TALLYGATE_DATA",
            show_default="./data",
            help="The gateway's data folder, where a generated master key is.",
        ),
        click.option(
            "--master-key-file",
            type=click.Path(path_type=Path),
            help="A file that holds the master key. Without it: $TALLYGATE_MASTER_KEY, "
            "$LITELLM_MASTER_KEY, or the one in the data folder.",
        ),
        click.option(
            "--url",
            default=URL_DEFAULT,
            envvar="TALLYGATE_URL",
            show_default=True,
            help="Where the gateway is.",
        ),
    ):
        with_gateway = option(with_gateway)
    return with_gateway


def _open_gateway(url: str, file: Path | None, data: Path, key: str | None) -> Gateway:
    """Return the gateway that the options name. Raises ClientError."""
    gateway = Gateway(url, key or find_master_key(file, data, dict(os.environ)))
    note_in_the_clear(gateway)
    return gateway


def note_in_the_clear(gateway: Gateway) -> None:
    """Say so where a key goes over a network unencrypted."""
    if gateway.is_in_the_clear:
        note(f"note: the key goes to {gateway.url} unencrypted; https would protect it")
