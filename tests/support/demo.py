"""Runs `tallygate demo` for tests: the whole system with a made-up history."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import msgspec

from services.demo.app import STATE_FILE, DemoState
from tests.support.gateway import TALLYGATE, end_with_ctrl_c, wait_until
from tests.support.ports import free_port

__all__ = ["Demo"]

READY_TIMEOUT_S = 90.0


class Demo:
    """A running demo: its address, its keys, what its history sums up to."""

    def __init__(self, folder: Path, *, requests: int, per_minute: int, seed: int) -> None:
        self.folder = folder
        self._options = {
            "requests": requests,
            "per-minute": per_minute,
            "seed": seed,
            "port": free_port(),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._out = folder.with_name(f"{folder.name}.out")

    @classmethod
    @contextmanager
    def started(
        cls, folder: Path, *, requests: int = 300, per_minute: int = 0, seed: int = 1
    ) -> Iterator["Demo"]:
        """Run a demo in a folder, and end it as Ctrl-C does."""
        demo = cls(folder, requests=requests, per_minute=per_minute, seed=seed)
        try:
            demo.start()
            yield demo
        finally:
            demo.stop()

    def start(self) -> None:
        """Start it and wait until it has told where it is."""
        command = [str(TALLYGATE), "demo", "--folder", str(self.folder)]
        command += [f"--{name}={value}" for name, value in self._options.items()]
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

        def has_printed() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.printed
            return "Ctrl-C" in self.printed

        wait_until(has_printed, READY_TIMEOUT_S, "the demo is ready")

    def stop(self) -> int:
        """End it; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        return end_with_ctrl_c(process, "the demo")

    @property
    def printed(self) -> str:
        """What it printed so far."""
        return self._out.read_text()

    @property
    def state(self) -> DemoState:
        """Its address, keys and sums."""
        return msgspec.json.decode((self.folder / STATE_FILE).read_bytes(), type=DemoState)

    @cached_property
    def names(self) -> dict[str, str]:
        """The ids of what is shown in details, by what they are; of one who manages a team."""
        request = (
            "SELECT request_id, session_id, key_id, user_id, team_id, model FROM requests"
            " WHERE status = 'success' AND session_id IS NOT NULL"
            " ORDER BY user_id <> 'hana.kim', cost_usd DESC, request_id LIMIT 1"
        )
        kinds = ("request_id", "session_id", "key_id", "user_id", "team_id", "model")
        return dict(zip(kinds, self.sql(request)[0], strict=True))

    def admin(self, method: str, path: str, **arguments: Any) -> Any:
        """Call a management route with the master key; return the JSON of a 200."""
        state = self.state
        headers = {"authorization": f"Bearer {state.master_key}"}
        with httpx.Client(base_url=state.url, timeout=30.0, trust_env=False) as client:
            answer = client.request(method, path, headers=headers, **arguments)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.json()

    def sql(self, query: str) -> list[list[Any]]:
        """Ask the ledger; return the rows."""
        rows: list[list[Any]] = self.admin("POST", "/ledger/sql", json={"query": query})["rows"]
        return rows
