"""Drives the real Claude Code on a terminal of its own, as a person at the keyboard would."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyte

from tests.support.claude_code import claude_code_path

__all__ = ["ClaudeScreen", "claude_screen"]

ROWS, COLUMNS = 60, 160
WAIT_TIMEOUT_S = 40.0
"""How long the screen may take to show what is waited for, on a busy machine."""
EXIT_TIMEOUT_S = 20.0
"""How long the client may take to end, before it is killed."""
_READ_BYTES = 65_536
_POLL_S = 0.05
_KEYSTROKE_S = 0.005
_ENTERS_MAX = 3
_ENTER_TIMEOUT_S = 5.0
_QUIET_S = 0.3
"""A screen that has not changed for so long has been drawn."""


class ClaudeScreen:
    """A running client and the terminal that it draws on."""

    def __init__(self, process_id: int, descriptor: int) -> None:
        self._process_id = process_id
        self._descriptor = descriptor
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._changed_at_s = time.monotonic()
        self._exit_code: int | None = None

    @property
    def text(self) -> str:
        """What stands on the screen, without the blanks at the ends of its lines."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def wait_for(self, pattern: str, *, timeout_s: float = WAIT_TIMEOUT_S) -> str:
        """Return the screen once it matches and stands still. Raises AssertionError with it."""
        expression = re.compile(pattern)
        self._wait(
            lambda: expression.search(self.text) is not None and self._is_still(),
            timeout_s,
            f"the screen shows {pattern!r}",
        )
        return self.text

    def wait_until(
        self, is_so: Callable[[], bool], what: str, *, timeout_s: float = WAIT_TIMEOUT_S
    ) -> None:
        """Wait for something that is not on the screen, while the client goes on drawing."""
        self._wait(is_so, timeout_s, what)

    def type(self, text: str) -> None:
        """Type a text, key by key: a whole text at once would be taken for a paste."""
        for character in text:
            os.write(self._descriptor, character.encode())
            self._read(_KEYSTROKE_S)

    def press(self, key: str) -> None:
        """Press one key, by the bytes that it sends."""
        os.write(self._descriptor, key.encode())
        self._read(_KEYSTROKE_S)

    def say(self, text: str) -> None:
        """Type a line and send it with the enter key.

        While it is busy with something else the client may overlook that key: a person would see
        the line still standing there, and press it again.
        """
        self.type(text)
        box = re.compile(rf"─{{20,}}\n❯\s{re.escape(text)} *\n─{{20,}}")
        self.wait_for(box.pattern)

        def is_taken() -> bool:
            return box.search(self.text) is None or self._has_ended()

        for _ in range(_ENTERS_MAX):
            self.press("\r")
            deadline = time.monotonic() + _ENTER_TIMEOUT_S
            while not is_taken() and time.monotonic() < deadline:
                self._read(_POLL_S)
            if is_taken():
                return
        raise AssertionError(f"the line is not taken:\n{self.text}")

    def exit(self) -> int:
        """Leave with /exit; return the exit code."""
        self.say("/exit")
        self._wait(self._has_ended, EXIT_TIMEOUT_S, "the client ends")
        assert self._exit_code is not None
        return self._exit_code

    def close(self) -> None:
        """End the client, however it is doing."""
        if not self._has_ended():
            os.kill(self._process_id, signal.SIGKILL)
            os.waitpid(self._process_id, 0)
        os.close(self._descriptor)

    def _is_still(self) -> bool:
        return time.monotonic() - self._changed_at_s > _QUIET_S

    def _has_ended(self) -> bool:
        if self._exit_code is None:
            process_id, status = os.waitpid(self._process_id, os.WNOHANG)
            if process_id:
                self._exit_code = os.waitstatus_to_exitcode(status)
        return self._exit_code is not None

    def _wait(self, is_so: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {timeout_s:g} s: {what}; the screen:\n{self.text}"
                )
            self._read(_POLL_S)

    def _read(self, timeout_s: float) -> None:
        """Draw what the client has written, waiting for it up to a time."""
        readable, _, _ = select.select([self._descriptor], [], [], timeout_s)
        if not readable or self._has_ended():
            return
        # Linux reports the end of a terminal as an error.
        with contextlib.suppress(OSError):
            before = self.text
            self._stream.feed(os.read(self._descriptor, _READ_BYTES))
            if self.text != before:
                self._changed_at_s = time.monotonic()


@contextmanager
def claude_screen(
    arguments: list[str], environment: Mapping[str, str], folder: Path
) -> Iterator[ClaudeScreen]:
    """Run the client on a new terminal for the length of a with statement."""
    path = str(claude_code_path())
    process_id, descriptor = pty.fork()
    if process_id == 0:
        os.chdir(folder)
        os.execve(path, [path, *arguments], {**environment, "TERM": "xterm-256color"})
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    screen = ClaudeScreen(process_id, descriptor)
    try:
        yield screen
    finally:
        screen.close()
