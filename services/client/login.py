"""`tallygate login` and `logout`: gateways that commands ask without further options."""

import os
import sys
from pathlib import Path

import msgspec
import rich_click as click

from schemas.keys import key_name
from services.client.credentials import is_key, read_key
from services.client.gateway import EXIT_REFUSED, EXIT_UNAUTHENTICATED, ClientError, Gateway
from services.client.key_rows import KeyRow
from services.client.options import key_file_option, note_in_the_clear
from services.client.output import note, print_json, print_table
from services.client.profiles import (
    DEFAULT_PROFILE,
    PROFILE_VARIABLE,
    URL_DEFAULT,
    Profile,
    check_profile_name,
    complete_profile,
    read_profiles,
)

__all__ = ["login", "logout"]


class _Info(msgspec.Struct):
    info: KeyRow


_profile_option = click.option(
    "--profile",
    shell_complete=complete_profile,
    default=DEFAULT_PROFILE,
    envvar=PROFILE_VARIABLE,
    show_default=True,
    help="What it is called here; commands take it with --profile.",
)


@click.command()
@click.argument("url", required=False)
@_profile_option
@key_file_option(
    "A file that holds the key, - for standard input. Without it the key is asked for."
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    help="A file (PEM) with the certificate of your company's own CA, which the gateway's is of.",
)
@click.option("--list", "as_list", is_flag=True, help="Show where this user is signed in.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON.")
def login(
    *,
    url: str | None,
    profile: str,
    key_file: Path | None,
    ca_file: Path | None,
    as_list: bool,
    as_json: bool,
) -> None:
    """Sign in to the gateway at URL: keep its address and a key for it, once it takes the key.

    The key is a virtual key, or the master key. They are kept in ~/.config/tallygate (under
    $XDG_CONFIG_HOME where that is set), readable by you alone.
    """
    profiles = read_profiles(os.environ)
    if as_list:
        _show(profiles.all, as_json=as_json)
        return
    check_profile_name(profile)
    former = profiles.all.get(profile)
    if url is None:
        if not sys.stdin.isatty():
            raise click.UsageError("URL is missing, such as https://gateway.example")
        url = click.prompt("Gateway", default=former.url if former else URL_DEFAULT, err=True)
    key = _asked_key() if key_file is None else read_key(key_file)
    if ca_file is not None:
        ca_file = ca_file.resolve()
    with Gateway(url, key, ca_file) as gateway:
        note_in_the_clear(gateway)
        found = _signed_in(gateway, key)
    if ca_file is not None:
        found = msgspec.structs.replace(found, ca_file=str(ca_file))
    profiles.all[profile] = found
    profiles.write()
    note(f"signed in to {found.url} as {found.signed_in_as} (profile {profile})")


@click.command()
@_profile_option
@click.option("--all", "everywhere", is_flag=True, help="Of all gateways.")
def logout(*, profile: str, everywhere: bool) -> None:
    """Forget a gateway and the key for it. The key stays in force; keys block ends that."""
    profiles = read_profiles(os.environ)
    if everywhere:
        gone = sorted(profiles.all)
    else:
        profiles.named(profile)
        gone = [profile]
    for name in gone:
        del profiles.all[name]
    if gone:
        profiles.write()
    note(f"signed out of {', '.join(gone) or 'nothing: there was no profile'}")


def _asked_key() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask for the key: name a file with --key-file, or -")
    key: str = click.prompt("Key", hide_input=True, err=True).strip()
    if not is_key(key):
        raise ClientError("what was given is no key", EXIT_UNAUTHENTICATED)
    return key


def _signed_in(gateway: Gateway, key: str) -> Profile:
    """Ask the gateway who the key is. Raises ClientError where it is refused."""
    try:
        row = msgspec.json.decode(gateway.get("/key/info"), type=_Info).info
    except msgspec.MsgspecError:
        raise ClientError(f"{gateway.url} answers, but not as tallygate does") from None
    except ClientError as error:
        if error.exit_code != EXIT_REFUSED:
            raise
        # The master key is none that this route could show; a list of keys it may see.
        gateway.get("/key/list", size=1)
        return Profile(url=gateway.url, key=key, is_master_key=True, signed_in_as="the master key")
    if row.status != "active":
        note(f"note: this key is {row.status}")
    name = row.key_alias or key_name(key)
    return Profile(url=gateway.url, key=key, is_master_key=False, signed_in_as=name)


def _show(profiles: dict[str, Profile], *, as_json: bool) -> None:
    rows = [
        [name, each.url, each.signed_in_as, key_name(each.key)]
        for name, each in sorted(profiles.items())
    ]
    columns = ["profile", "url", "signed in as", "key"]
    if as_json:
        names = ["profile", "url", "signed_in_as", "key_name"]
        print_json(msgspec.json.encode([dict(zip(names, row, strict=True)) for row in rows]))
    else:
        print_table(columns, rows, right=frozenset())
