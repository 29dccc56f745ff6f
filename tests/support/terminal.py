"""A command at a pseudo-terminal: what is typed into it, and what it then shows."""

import os
import pty
import re
import select
import signal
import sys
import termios
import time
from contextlib import suppress

__all__ = ["PROMPT", "Terminal"]

DEADLINE_S = 40.0
REPEAT_S = 1.0
PROMPT = "tallygate> "
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x07|\r")


class Terminal:
    """A process at a pseudo-terminal: what is typed, and what it then shows."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process_id, self.descriptor = pty.fork()
        if self.process_id == 0:
            # As at a real terminal, also where what runs the tests ignores Ctrl-C.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            environment |= {"TERM": "xterm", "COLUMNS": "200", "LINES": "50"}
            command = [sys.executable, "-m", "services.cli", *arguments]
            os.execve(sys.executable, command, environment)
        self.shown = ""
        self.is_plain_at_end = False
        """How the process left the terminal; known with its exit code."""

    def is_plain(self) -> bool:
        """Tell whether what is typed is shown, and read line by line, as a shell expects it."""
        local_modes = termios.tcgetattr(self.descriptor)[3]
        return bool(local_modes & termios.ECHO and local_modes & termios.ICANON)

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def interrupt(self) -> str:
        """Type Ctrl-C, return what is shown up to the next prompt.

        Again and again: Python does not see a signal that comes just before it waits for a key.
        """
        for _ in range(int(DEADLINE_S / REPEAT_S)):
            self.type("\x03")
            with suppress(TimeoutError):
                return self.until(PROMPT, deadline_s=REPEAT_S)
        raise TimeoutError(self.shown)

    def until(self, *wanted: str, deadline_s: float = DEADLINE_S) -> str:
        """Return what is shown up to the last of `wanted`, which come in this order."""
        deadline = time.monotonic() + deadline_s
        while True:
            place = 0
            for part in wanted:
                place = self.shown.find(part, place)
                if place < 0:
                    break
                place += len(part)
            else:
                seen, self.shown = self.shown[:place], self.shown[place:]
                return seen
            if time.monotonic() > deadline:
                raise TimeoutError(wanted, self.shown)
            if select.select([self.descriptor], [], [], 0.2)[0]:
                try:
                    content = os.read(self.descriptor, 65536)
                except OSError:
                    content = b""
                assert content, ("the process is gone", wanted, self.shown)
                self.shown += _CONTROLS.sub("", content.decode(errors="replace"))

    def ask(self, text: str) -> str:
        """Type a line, return what is shown between it and the next prompt."""
        self.type(text + "\n")
        self.until(text[-10:], "\n")
        return self.until(PROMPT).removesuffix(PROMPT)

    def exit_code(self) -> int:
        """Return the exit code; the process must end by itself."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            ended, status = os.waitpid(self.process_id, os.WNOHANG)
            if ended:
                self.is_plain_at_end = self.is_plain()
                os.close(self.descriptor)
                return os.waitstatus_to_exitcode(status)
            if select.select([self.descriptor], [], [], 0.02)[0]:
                try:
                    os.read(self.descriptor, 65536)
                except OSError:
                    time.sleep(0.01)
        os.kill(self.process_id, signal.SIGKILL)
        raise AssertionError("the process did not end")
