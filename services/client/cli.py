"""Running a client command: click's parsing, and one exit code for each kind of failure."""

import os
import sys

import rich_click as click

from services.client.commands import client_commands
from services.client.gateway import ClientError
from services.client.output import cell_text

__all__ = ["main"]

EXIT_INTERRUPTED = 130


@click.group(name="tallygate")
def _tallygate() -> None:
    """Ask and manage a running gateway."""


for _command in client_commands:
    _tallygate.add_command(_command)


def main(arguments: list[str]) -> int:
    """Run a client command (`arguments` begin with its name); return the exit code.

    0: done. 1: the gateway refused it. 2: wrong usage. 69: the gateway cannot be reached, or
    cannot do it now. 77: no key, a wrong one, or one that may not do
    this. 130: interrupted.
    """
    try:
        _tallygate.main(args=arguments, prog_name="tallygate", standalone_mode=False)
    except ClientError as error:
        lines = (cell_text(line) for line in str(error).split("\n"))
        sys.stderr.write("tallygate: " + "\n".join(lines) + "\n")
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("tallygate: interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0
