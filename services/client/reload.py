"""`tallygate reload`: a running gateway takes its configuration file anew."""

import hashlib
import sys
from pathlib import Path

import msgspec
import rich_click as click

from services.client.gateway import ClientError, Gateway
from services.client.options import gateway_options
from services.client.output import cell_text, note, print_json

__all__ = ["reload"]

FILE_BYTES_MAX = 1024 * 1024


class _Process(msgspec.Struct):
    part: str
    process: str
    taken: bool
    problem: str | None = None


class _Reloaded(msgspec.Struct):
    sha256: str
    changed: list[str]
    notices: list[str]
    restart_needed: list[str]
    taken_by_all: bool
    processes: list[_Process]


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="TALLYGATE_CONFIG",
    help="The file that the gateway is to have: where its own is another one, nothing is done. "
    "Without it the gateway's file is taken, whatever is in it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the API's answer.")
@gateway_options
def reload(*, config: Path | None, as_json: bool, gateway: Gateway) -> None:
    """Let a running gateway take its configuration file as it is now, without a restart.

    The gateway checks the file whole first: if there is any problem, all are listed and nothing
    changes. Requests under way keep the configuration that they began with.
    """
    body = {} if config is None else {"sha256": _digest(config)}
    content = gateway.post("/config/reload", body)
    done = msgspec.json.decode(content, type=_Reloaded)
    if as_json:
        print_json(content)
    else:
        _print(done)
    if not done.taken_by_all:
        late = [each for each in done.processes if not each.taken]
        raise ClientError(
            "\n".join(
                [
                    f"{len(late)} of {len(done.processes)} processes have not taken it:",
                    *(f"{each.part}: {each.problem or 'no word yet'}" for each in late),
                ]
            )
        )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}") from None
    return hashlib.sha256(content).hexdigest()


def _print(done: _Reloaded) -> None:
    lines = [f"changed: {cell_text(each)}" for each in done.changed] or ["nothing has changed"]
    lines.append(f"SHA-256 {cell_text(done.sha256)}, {len(done.processes)} processes")
    sys.stdout.write("\n".join(lines) + "\n")
    for each in done.notices:
        note(f"note: {cell_text(each)}")
    if done.restart_needed:
        names = ", ".join(map(cell_text, done.restart_needed))
        note(f"note: in force after a restart alone: {names}")
