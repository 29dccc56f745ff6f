"""`tallygate top`: live traffic of a running gateway, in the terminal or for scripts."""

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import NamedTuple

import msgspec
import rich_click as click
from rich.console import Console
from rich.live import Live

from services.client.gateway import ClientError, Gateway
from services.client.options import gateway_options_with_key
from services.client.output import print_json
from services.client.top_figures import Traffic, read_traffic
from services.client.top_screen import screen

__all__ = ["is_left", "single_keys", "top"]

WINDOW_S_MAX = 3600
INTERVAL_S_MIN, INTERVAL_S_MAX = 0.5, 60.0
_LOOK_INTERVAL_S = 0.1
"""So soon a key that is pressed, or an answer, is seen."""
_LINES_WITHOUT_TERMINAL = 60


class _Answer(NamedTuple):
    """What the gateway said last: figures, or why there are none."""

    traffic: Traffic | None
    problem: str | None


@click.command()
@click.option(
    "--window",
    "window_s",
    type=click.IntRange(1, WINDOW_S_MAX),
    default=60,
    show_default=True,
    help="Figures are about so many last seconds.",
)
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(INTERVAL_S_MIN, INTERVAL_S_MAX),
    default=2.0,
    show_default=True,
    help="Ask anew after so many seconds.",
)
@click.option("--once", is_flag=True, help="Ask once, print it and end.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: with --once one object, else one a line."
)
@gateway_options_with_key
def top(*, window_s: int, interval_s: float, once: bool, as_json: bool, gateway: Gateway) -> None:
    """Show live traffic: requests a second and under way, tokens, cost, failures, by key and model.

    q or Ctrl-C ends it. Results of message batches are not in it.
    """
    if not once and not as_json and not sys.stdout.isatty():
        raise click.UsageError("this is for a terminal: --once prints it once, --json for programs")
    traffic = read_traffic(gateway, window_s)
    if once or as_json:
        _print(traffic, gateway.url, as_json=as_json, indented=once)
        while not once:
            time.sleep(interval_s)
            _print(read_traffic(gateway, window_s), gateway.url, as_json=True, indented=False)
        return
    _show(gateway, traffic, window_s, interval_s)


def _print(traffic: Traffic, url: str, *, as_json: bool, indented: bool) -> None:
    if not as_json:
        lines = _LINES_WITHOUT_TERMINAL
        Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(
            screen(traffic, url=url, time_of_day=_time_of_day(), lines=lines)
        )
        return
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    content = msgspec.json.Encoder(decimal_format="number").encode(
        {"at": at, **msgspec.structs.asdict(traffic)}
    )
    if indented:
        print_json(content)
    else:
        sys.stdout.write(content.decode() + "\n")
        sys.stdout.flush()


def _show(gateway: Gateway, traffic: Traffic, window_s: int, interval_s: float) -> None:
    """Show the screen until q or Ctrl-C."""
    answers: SimpleQueue[_Answer] = SimpleQueue()
    asker = threading.Thread(
        target=_ask_on,
        args=(gateway, window_s, interval_s, answers),
        # A gateway that hangs must not keep somebody who leaves.
        daemon=True,
    )
    console = Console(highlight=False)
    last = _Answer(traffic, None)
    with (
        _ended_by_signals(),
        single_keys(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        _draw(live, console, last, traffic, gateway.url)
        asker.start()
        while not is_left():
            try:
                last = answers.get_nowait()
            except Empty:
                continue
            traffic = last.traffic or traffic
            _draw(live, console, last, traffic, gateway.url)


def _draw(live: Live, console: Console, last: _Answer, traffic: Traffic, url: str) -> None:
    shown = screen(
        traffic,
        url=url,
        time_of_day=_time_of_day(),
        lines=console.height,
        problem=last.problem,
    )
    live.update(shown, refresh=True)


def _ask_on(
    gateway: Gateway, window_s: int, interval_s: float, answers: "SimpleQueue[_Answer]"
) -> None:
    """Ask again and again; a gateway that is away is asked until it is back."""
    while True:
        time.sleep(interval_s)
        try:
            answers.put(_Answer(read_traffic(gateway, window_s), None))
        except ClientError as error:
            answers.put(_Answer(None, str(error)))


def is_left() -> bool:
    """Wait a moment; tell whether q was pressed in it."""
    if not sys.stdin.isatty():
        time.sleep(_LOOK_INTERVAL_S)
        return False
    ready, _, _ = select.select([sys.stdin], [], [], _LOOK_INTERVAL_S)
    if not ready:
        return False
    pressed = os.read(sys.stdin.fileno(), 1024)
    # An empty read: the terminal is gone.
    return not pressed or pressed.lower()[:1] == b"q"


@contextmanager
def single_keys() -> Iterator[None]:
    """Let keys be read as they are pressed, unseen, while the body runs."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End the body in order, so that the terminal is left as it was, at Ctrl-C and SIGTERM."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _time_of_day() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S")
