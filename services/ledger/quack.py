"""Serves the books over Quack, DuckDB's own protocol, so that any DuckDB client can attach them.

Each text that a client sends is judged by the rules of `sql_rules` before it runs, as a query of
`POST /ledger/sql` is; what attaching needs is a SELECT, too. The instance is locked as the
reader's is. A client's connection is the extension's own: nothing here can interrupt its query or
roll it back. So the server has a process and a copy of the books of its own, which does no more
than this, and ends itself where a query takes too long or too much. It is started again at once,
with its file; neither the writer nor the reader notices.
"""

import ipaddress
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection
from typing import NoReturn

import duckdb
from duckdb.func import FunctionNullHandling

from schemas.rpc import QUERY_TIMEOUT_S
from services.ledger.query import lock_down
from services.ledger.query_watch import QueryLoad
from services.ledger.sql_rules import SqlInvalid, SqlRefused, check_sql

__all__ = [
    "QUACK_CONNECTIONS_MAX",
    "QUACK_QUERIES_AT_ONCE_MAX",
    "QUACK_TIMEOUT_S",
    "Judge",
    "QuackServer",
    "is_free",
]

QUACK_TIMEOUT_S = QUERY_TIMEOUT_S
"""A query, with the fetching of its rows, takes at most so long; longer: the server restarts."""
QUACK_QUERIES_AT_ONCE_MAX = 4
"""So many queries run at a time; the next one is refused."""
QUACK_CONNECTIONS_MAX = 1000
"""So many clients may be attached; more: the server restarts, and they attach again."""
_LOOK_INTERVAL_S = 0.05
_CONNECT_TIMEOUT_S = 1.0
_REFUSALS_TOLD_PER_MINUTE_MAX = 60
_TEXT_SHOWN_CHARACTERS_MAX = 200
_FUNCTION = "tallygate_may_run"
_CONNECTIONS = "SELECT connection_id, query_started_at, state FROM quack_active_connections()"

_log = logging.getLogger(__name__)


def is_free(host: str, port: int) -> bool:
    """Tell whether nobody answers on an address. The extension itself would share it."""
    try:
        socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError:
        return True
    return False


class Judge:
    """Decides which texts may run; called from the threads of Quack's server, one at a time.

    It parses in an instance of its own, so that it needs nothing of the one that serves. `tables`
    are the names that may be read in the schema main of `database`. `running` tells how many
    queries run.
    """

    def __init__(
        self, tables: Collection[str], database: str, running: Callable[[], int] = lambda: 0
    ) -> None:
        self._tables = tables
        self._database = database
        self._running = running
        self._parser = duckdb.connect(":memory:")
        self._lock = threading.Lock()
        self._minute = 0.0
        self._told = 0

    def may_run(self, _connection_id: str | None, text: str | None) -> bool:
        """Tell whether a text may run; the log says why not. Never raises."""
        reason = self.reason(text or "")
        if reason is not None:
            self._tell(text or "", reason)
        return reason is None

    def reason(self, text: str) -> str | None:
        """Return why a text may not run; None: it may."""
        with self._lock:
            try:
                check_sql(self._parser, text, self._tables, self._database)
            except (SqlRefused, SqlInvalid) as error:
                return str(error)
            except Exception as error:  # noqa: BLE001 - what is not understood does not run
                return f"it could not be judged ({type(error).__name__})"
        if self._running() >= QUACK_QUERIES_AT_ONCE_MAX:
            return (
                f"{QUACK_QUERIES_AT_ONCE_MAX} queries run already (QUACK_QUERIES_AT_ONCE_MAX): "
                "try again in some seconds"
            )
        return None

    def close(self) -> None:
        """Give the parser back."""
        with self._lock:
            self._parser.close()

    def _tell(self, text: str, reason: str) -> None:
        now = time.monotonic()
        if now >= self._minute + 60:
            self._minute, self._told = now, 0
        self._told += 1
        if self._told <= _REFUSALS_TOLD_PER_MINUTE_MAX:
            shown = text[:_TEXT_SHOWN_CHARACTERS_MAX]
            _log.warning("Quack: a query was refused: %s", reason, extra={"query": shown})


class QuackServer:
    """Quack's server in this process, on the database of `connection`.

    Making it loads the extensions (`load_quack` must have been called), and locks the instance.
    `on_harm` is called, from a thread, with what must end the process; it does not return.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        token: str,
        memory_bytes_max: int,
        on_harm: Callable[[str], None] | None = None,
    ) -> None:
        self._root = connection.cursor()
        self._watched = connection.cursor()
        rows = self._root.execute(
            "SELECT current_database(), table_name FROM information_schema.tables"
            " WHERE table_catalog = current_database() AND table_schema = 'main'"
        ).fetchall()
        self._running = 0
        database = str(rows[0][0]) if rows else ""
        self.judge = Judge(frozenset(row[1] for row in rows), database, lambda: self._running)
        self._token = token
        self._on_harm = on_harm or _end_process
        self._load = QueryLoad(connection.cursor(), memory_bytes_max)
        self._seen: dict[tuple[str, object], float] = {}
        self._address: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="quack-watch", daemon=True)
        self._root.create_function(
            _FUNCTION,
            self.judge.may_run,
            ["VARCHAR", "VARCHAR"],
            "BOOLEAN",
            null_handling=FunctionNullHandling.SPECIAL,
            side_effects=True,
        )
        self._root.execute(f"SET GLOBAL quack_authorization_function = '{_FUNCTION}'")
        lock_down(self._root, memory_bytes_max=memory_bytes_max)

    def serve(self, host: str, port: int) -> None:
        """Begin to serve. Raises duckdb.Error where the address cannot be had."""
        literal = f"[{host}]" if ":" in host else host
        self._address = f"quack:{literal}:{port}"
        self._root.execute(
            "CALL quack_serve($1, token := $2, allow_other_hostname := $3)",
            [self._address, self._token, not _is_loopback(host)],
        ).fetchall()
        self._thread.start()

    @property
    def running(self) -> int:
        """How many queries run, as far as is known."""
        return self._running

    @property
    def is_busy(self) -> bool:
        """Whether a query runs, as far as is known."""
        return self._running > 0

    def close(self) -> None:
        """Stop serving. Queries that run are not interrupted."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._address is not None:
            self._root.execute("CALL quack_stop($1)", [self._address]).fetchall()
        self._load.close()
        self._watched.close()
        self._root.close()
        self.judge.close()

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_INTERVAL_S):
            reason = self._harm()
            if reason is not None:
                self._on_harm(reason)

    def _harm(self) -> str | None:
        """Return why the process must end, if it must."""
        try:
            rows = self._watched.execute(_CONNECTIONS).fetchall()
        except duckdb.Error as error:
            return f"DuckDB does not answer any more ({type(error).__name__})"
        if len(rows) > QUACK_CONNECTIONS_MAX:
            return f"more than {QUACK_CONNECTIONS_MAX} clients (QUACK_CONNECTIONS_MAX)"
        now = time.monotonic()
        active = {(row[0], row[1]) for row in rows if row[2] == "active"}
        self._seen = {query: self._seen.get(query, now) for query in active}
        self._running = len(active)
        if any(now - began > QUACK_TIMEOUT_S for began in self._seen.values()):
            return f"a query took longer than {QUACK_TIMEOUT_S:g} s (QUACK_TIMEOUT_S)"
        if active and self._load.is_too_much():
            return "queries took more memory than they may (query_memory_bytes_max)"
        return None


def _end_process(reason: str) -> NoReturn:
    """End this process at once: a query that cannot be interrupted would not let it end in order.

    The file is safe as after any kill, and whoever started the process starts it again.
    """
    _log.critical("Quack: %s: its server starts again, attach anew", reason)
    logging.shutdown()
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit(1)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
