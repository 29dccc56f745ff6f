"""Runs one session of the real Claude Code twice, directly and through the gateway, and compares.

Both runs have the same address to talk to (a relay in between), the same home, session and device,
so that nothing is different but what the gateway does. Compared are all requests that the API got,
all answers that the client got, and what the session returned as shown.

What may differ is named here, and nothing else: the credentials, `accept-encoding`, `host` and
`connection`, the value of `model` where the name is an alias, ids that the API makes anew for every
answer, lengths of time and the number of the process.
"""

import json
import re
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas.events import UsageRecord, UsageRecorded
from tests.support.claude_code import claude_environment, log_in, make_home, print_claude
from tests.support.mock import MockAnthropic, Record, headers_of
from tests.support.mock_anthropic.scenario import Scenario
from tests.support.proxy import ProxyProcess
from tests.support.tap import Exchange, Tap

__all__ = ["SESSION_ID", "Client", "Compared", "Comparison", "Mode", "Printed", "Session"]

SESSION_ID = "5e551011-0000-4000-8000-000000000001"
ALIAS, ALIASED = b'"model":"anthropic-claude"', b'"model":"claude-sonnet-4-20250514"'

CREDENTIALS = frozenset({"authorization", "x-api-key", "x-litellm-api-key"})
_PER_HOP = frozenset({"host", "connection", "keep-alive", "content-length", "transfer-encoding"})
_ANSWERED_BY_THE_GATEWAY = frozenset({"/api/hello", "/v1/models"})
_LIMITS = "anthropic-ratelimit-"
_GATEWAYS_OWN = "x-tallygate-request-id"
_METERED_CODINGS = "gzip, deflate"

_BOOKED_TIMEOUT_S = 40.0

_MADE_UP = re.compile(
    rb"\b(?:(msg|req|toolu)_[0-9A-Za-z]+|(a)[0-9a-f]{16}\b|"
    rb"([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
)
_OF_THE_PROCESS = re.compile(rb"(duration_ms: |/cc-socks/)[0-9]+")


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """How a client is set up.

    That is: variables of its environment, the command of an apiKeyHelper, the token of a `/login`.

    `KEY` in a value stands for the virtual key, in the run through the gateway alone; directly it
    stands for `direct_key`, which the API takes. `arrives`: the credentials that the API must see;
    where these are another account's than directly, `is_other_account`, the limits that it tells
    are that account's.
    """

    name: str
    environment: dict[str, str]
    arrives: dict[str, str]
    helper: str | None = None
    login: str | None = None
    direct_key: str = "sk-ant-api03-direct"
    model: str | None = None
    quiet: bool = True
    is_other_account: bool = False


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """What a headless run printed: its JSON lines without lengths of time, and its exit code."""

    exit_code: int
    lines: list[Any]
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The last line: the result."""
        found: dict[str, Any] = self.lines[-1]
        return found


class Client:
    """The client of one run: its home and its environment."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        self.environment = environment
        self.project = home / "project"

    def ask(self, prompt: str, *arguments: str, output: str = "json") -> Printed:
        """Run it headless; name the session yourself where it shall go on."""
        done = print_claude(
            [prompt, "--output-format", output, *arguments], self.environment, self.project
        )
        lines = [_timeless(json.loads(line)) for line in done.stdout.splitlines()]
        return Printed(exit_code=done.returncode, lines=lines, stderr=done.stderr)


Session = Callable[[Client], Any]
"""Does something with a client and returns what it saw, in plain data."""


class _Run(msgspec.Struct):
    shown: Any
    exchanges: list[Exchange]
    arrived: list[Record]


class Compared(msgspec.Struct):
    """Two runs that were the same. The fields are those of the run through the gateway."""

    shown: Any
    exchanges: list[Exchange]
    arrived: list[Record]


class Comparison:
    """Everything that both runs need. `key` is the virtual key."""

    def __init__(
        self, *, mock: MockAnthropic, proxy: ProxyProcess, tap: Tap, folder: Path, key: str
    ) -> None:
        self.mock = mock
        self.proxy = proxy
        self.tap = tap
        self.key = key
        self.home = folder / "home"
        """The client's home, in both runs."""

    def run(
        self,
        session: Session,
        mode: Mode,
        *,
        answers: Scenario | None = None,
        first: Sequence[Scenario] = (),
        ordered: bool = True,
    ) -> Compared:
        """Run a session both ways. Raises AssertionError at the first difference.

        `answers` is what the API answers, `first` what comes before that. `ordered` False: requests
        may overtake each other.
        """
        runs = []
        for url, key in ((self.mock.url, mode.direct_key), (self.proxy.url, self.key)):
            self.mock.reset()
            if answers is not None:
                self.mock.set_default(answers)
            self.mock.queue(*first)
            self.tap.point_at(url)
            shown = session(self.client(mode, key))
            arrived = [each for each in self.mock.requests() if _is_compared(each.target)]
            runs.append(_Run(shown, list(self.tap.exchanges), arrived))
        direct, through = runs
        _compare_arrived(direct.arrived, through.arrived, ordered=ordered)
        left_out = _LIMITS if mode.is_other_account else None
        _compare_answers(direct.exchanges, through.exchanges, ordered=ordered, left_out=left_out)
        assert_same_bytes(_plainly(direct.shown), _plainly(through.shown), "what was shown")
        for record in through.arrived:
            self._check_credentials(record, mode)
        return Compared(through.shown, through.exchanges, through.arrived)

    def booked(self, count: int = 0) -> list[UsageRecord]:
        """Return the records of the proxy, the oldest first, once there are so many."""
        deadline = time.monotonic() + _BOOKED_TIMEOUT_S
        while True:
            events = self.proxy.events()
            found = [event.data for event in events if isinstance(event, UsageRecorded)]
            if len(found) >= count:
                return sorted(found, key=lambda record: record.started_at_us)
            assert time.monotonic() < deadline, f"{len(found)} of {count} records"

    def client(self, mode: Mode, key: str) -> Client:
        """Return a client with a new home, which talks to wherever the relay points."""
        shutil.rmtree(self.home, ignore_errors=True)
        make_home(self.home)
        folder = self.home / ".claude"
        folder.mkdir()
        if mode.helper is not None:
            settings = {"apiKeyHelper": mode.helper.replace("KEY", key)}
            (folder / "settings.json").write_text(json.dumps(settings))
        if mode.login is not None:
            log_in(self.home, mode.login)
        environment = claude_environment(
            self.tap.url, virtual_key=None, oauth_token=None, model=mode.model, home=self.home
        )
        if not mode.quiet:
            del environment["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"]
        own = {name: value.replace("KEY", key) for name, value in mode.environment.items()}
        return Client(self.home, environment | own)

    def _check_credentials(self, record: Record, mode: Mode) -> None:
        found = {name: headers_of(record, name) for name in CREDENTIALS}
        expected = {name: [value] for name, value in mode.arrives.items()}
        assert {name: values for name, values in found.items() if values} == expected
        assert self.key not in str(record.headers) + record.target
        assert self.key.encode() not in record.body


class _Ids:
    """Gives the ids of one run plain names, in the order in which they first appear."""

    def __init__(self) -> None:
        self._names: dict[bytes, bytes] = {}

    def plain(self, data: bytes) -> bytes:
        return _OF_THE_PROCESS.sub(rb"\g<1>0", _MADE_UP.sub(self._name, data))

    def _name(self, found: re.Match[bytes]) -> bytes:
        kind = found[1] or found[2] or b"uuid"
        return self._names.setdefault(found[0], b"<%s %d>" % (kind, len(self._names)))


def _timeless(line: Any) -> Any:
    """Leave out the lengths of time of a JSON line, at every depth, and its own id."""
    if isinstance(line, dict):
        return {
            name: _timeless(value)
            for name, value in line.items()
            if not name.endswith("_ms") and name not in {"uuid", "timestamp"}
        }
    return [_timeless(each) for each in line] if isinstance(line, list) else line


def _is_compared(target: str) -> bool:
    return target.partition("?")[0] not in _ANSWERED_BY_THE_GATEWAY


def _aliased(body: bytes) -> bytes:
    """Return a request body as the gateway must send it on."""
    return body.replace(ALIAS, ALIASED, 1) if body.startswith(b"{" + ALIAS) else body


def _unpacked(exchange: Exchange) -> bytes:
    """Return the body of an answer: the ids within must be seen, packed or not."""
    if exchange.answer_header("content-encoding") != "gzip":
        return exchange.answer_body
    return zlib.decompressobj(wbits=31).decompress(exchange.answer_body)


def _unaliased(data: bytes) -> bytes:
    spaced = ALIASED.replace(b":", b": ")
    return data.replace(ALIASED, ALIAS).replace(spaced, ALIAS.replace(b":", b": "))


def _plainly(shown: Any) -> bytes:
    """Return what a session showed, with plain names for ids and the alias for the model."""
    return _unaliased(_Ids().plain(json.dumps(shown, default=msgspec.to_builtins).encode()))


def _end_to_end(
    headers: Sequence[tuple[str, str]], ids: _Ids, prefix_left_out: str | None = None
) -> set[tuple[str, str]]:
    left_out = CREDENTIALS | _PER_HOP | {"accept-encoding", _GATEWAYS_OWN}
    return {
        # The mock's limits are renewed on the hour.
        (name.lower(), "" if name.endswith("-reset") else ids.plain(value.encode()).decode())
        for name, value in headers
        if name.lower() not in left_out
        and not (prefix_left_out and name.lower().startswith(prefix_left_out))
    }


def _names(count: int, *, ordered: bool) -> list[_Ids]:
    """Return what names the ids in each message.

    It is one for all, or one for each where the order of the messages, and so of the ids, means
    nothing.
    """
    return [_Ids()] * count if ordered else [_Ids() for _ in range(count)]


def _compare_arrived(direct: list[Record], through: list[Record], *, ordered: bool) -> None:
    """Compare what the API got: each request's line, end-to-end headers and body."""
    lines = [[(each.method, each.target) for each in run] for run in (direct, through)]
    assert lines[1] == lines[0] if ordered else sorted(lines[1]) == sorted(lines[0])
    requests = []
    for run in (direct, through):
        made = [
            (each.method, each.target, ids.plain(each.body), _end_to_end(each.headers, ids))
            for each, ids in zip(run, _names(len(run), ordered=ordered), strict=True)
        ]
        requests.append(made if ordered else sorted(made, key=lambda request: request[:3]))
    for one, other in zip(*requests, strict=True):
        assert (one[0], one[1]) == (other[0], other[1])
        assert other[3] == one[3], f"headers of {one[1]}: {sorted(other[3] ^ one[3])}"
        assert_same_bytes(_aliased(one[2]), other[2], f"body of {one[1]}")
    for record in through:
        assert headers_of(record, "accept-encoding") == [_METERED_CODINGS]


def _compare_answers(
    direct: list[Exchange], through: list[Exchange], *, ordered: bool, left_out: str | None
) -> None:
    """Compare what the client asked, and got: status, end-to-end headers, bytes of the body."""
    answers = []
    for run in (direct, through):
        made = []
        for each, ids in zip(run, _names(len(run), ordered=ordered), strict=True):
            asked = (each.method, each.target, ids.plain(each.body))
            if not _is_compared(each.target):
                made.append((*asked, each.status, set(), b"", True))
                continue
            headers = _end_to_end(each.answer_headers, ids, left_out)
            body = _unaliased(ids.plain(_unpacked(each)))
            made.append((*asked, each.status, headers, body, each.is_whole))
        answers.append(made if ordered else sorted(made, key=lambda answer: answer[:3]))
    for one, other in zip(*answers, strict=True):
        assert (one[0], one[1], one[3]) == (other[0], other[1], other[3])
        assert_same_bytes(one[2], other[2], f"body of {one[1]} as the client sent it")
        assert other[4] == one[4], f"headers of the answer to {one[1]}: {sorted(other[4] ^ one[4])}"
        assert_same_bytes(one[5], other[5], f"answer to {one[1]}")
        assert other[6] == one[6], f"whether the answer to {one[1]} came to its end"


def assert_same_bytes(expected: bytes, found: bytes, what: str) -> None:
    """Fail with the place where two texts part, not with all of their thousands of bytes."""
    if expected == found:
        return
    pairs = enumerate(zip(expected, found, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(found)))
    around = slice(max(0, at - 80), at + 120)
    raise AssertionError(
        f"{what}: {len(expected)} and {len(found)} bytes part at {at}:\n"
        f"{expected[around]!r}\n{found[around]!r}"
    )
