"""The options that all client commands share, and what they make of them."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import rich_click as click

from services.client.gateway import Gateway, find_master_key
from services.client.output import note

__all__ = ["gateway_options"]

URL_DEFAULT = "http://127.0.0.1:4000"


def gateway_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which gateway is meant and where its master key is.

    The command gets the open gateway as its argument `gateway` in place of them.
    """

    @wraps(command)
    def with_gateway(url: str, master_key_file: Path | None, data: Path, **values: Any) -> None:
        with _open_gateway(url, master_key_file, data) as gateway:
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


def _open_gateway(url: str, master_key_file: Path | None, data: Path) -> Gateway:
    """Return the gateway that the options name. Raises ClientError."""
    gateway = Gateway(url, find_master_key(master_key_file, data, dict(os.environ)))
    if gateway.is_in_the_clear:
        note(f"note: the master key goes to {gateway.url} unencrypted; https would protect it")
    return gateway
