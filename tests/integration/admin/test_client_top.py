"""`tallygate top`: at a terminal and for scripts, against a real admin process."""

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from services.client.cli import main
from services.client.top import is_left, single_keys
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader
from tests.support.terminal import Terminal

WINDOW = ("--window", "3600")
"""So long that what ended as the module began is still in it."""
EVIL = "bob\x1b[2J"


@pytest.fixture(scope="module", autouse=True)
def _reader(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Four requests that have just ended, one of long ago, a batch's result, and one under way."""

    def ended(request_id: str, seconds_ago: float, **cells: object) -> dict[str, object]:
        at = str(datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds_ago))
        return request_row(request_id=request_id, ended_at=at, **cells)

    ana = {"key_id": "key_ana", "key_alias": "ana"}
    rows = [
        ended("r1", 1, cost_usd="0.125000000001", ttfb_ms=100, **ana),
        ended("r2", 2, cost_usd="2", ttfb_ms=300, model_name="claude-haiku-4-5", **ana),
        ended("r3", 3, cost_usd=None, unpriced=True, status="failure", http_status=529, **ana),
        ended("r4", 4, cost_usd="0", status="refused", http_status=429, key_id="key_bob",
              key_alias=EVIL, reason="budget of key bob used up"),
        ended("r5", 90_000, cost_usd="50", **ana),
        ended("r6", 1, cost_usd="70", endpoint="batch_result", **ana),
    ]  # fmt: skip
    opened = {
        "request_id": "r7",
        "started_at": "2026-11-20 10:00:00",
        "key_id": "key_eve",
        "model_name": "claude-haiku-4-5",
        "producer": "p",
        "producer_sequence": 9,
        "stream_sequence": 9,
        "opened_at": "2026-11-20 10:00:00",
        "facts": "{}",
    }
    folder = tmp_path_factory.mktemp("reader")
    with running_query_reader(folder, nats.url, rows, {"open_requests": [opened]}):
        yield


@pytest.fixture
def environment(admin: RunningAdmin) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "TALLYGATE_URL": admin.url,
        "LITELLM_MASTER_KEY": MASTER_KEY,
    }


def test_one_look_tells_scripts_what_goes_on(
    admin: RunningAdmin,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Given traffic of two keys and two models, when it is looked at once
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["top", "--once", "--json", *WINDOW]) == 0
    seen = json.loads(capsys.readouterr().out, parse_float=Decimal, parse_int=Decimal)
    # Then what ended in the window is counted once, exactly; what is under way beside it.
    total = seen["total"]
    assert (total["requests"], total["failed"], total["refused"], total["under_way"]) == (
        4,
        1,
        1,
        1,
    )
    assert total["cost_usd"] == Decimal("2.125000000001")
    assert (total["unpriced_requests"], total["ttfb_ms_median"]) == (1, 200)
    assert total["output_tokens"] == 4 * 333
    assert total["requests_per_s"] == round(Decimal(4) / 3600, 3)
    keys = {each["name"]: each for each in seen["keys"]}
    assert keys["ana"]["cost_usd"] == total["cost_usd"]
    assert (keys["ana"]["requests"], keys["ana"]["under_way"]) == (3, 0)
    assert (keys["key_eve"]["requests"], keys["key_eve"]["under_way"]) == (0, 1)
    models = {each["name"]: (each["requests"], each["under_way"]) for each in seen["models"]}
    assert models == {"anthropic-claude": (3, 0), "claude-haiku-4-5": (1, 1)}
    assert [each["request_id"] for each in seen["latest"]] == ["r1", "r2", "r3", "r4"]
    assert seen["latest"][3]["problem"] == "budget of key bob used up"
    assert len(seen["per_second"]) == 60
    # And the key of a team's analyst sees the team's traffic alone, of which there is none.
    analyst = str(admin.generate(team_id="green", analyst="team")["key"])
    monkeypatch.setenv("TALLYGATE_KEY", analyst)
    assert main(["top", "--once", "--json", *WINDOW]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert (total["requests"], total["under_way"]) == (0, 0)
    monkeypatch.delenv("TALLYGATE_KEY")
    # And into a pipe it is a text that nobody's name can move the cursor of; a screen is refused.
    assert main(["top", "--once", *WINDOW]) == 0
    text = capsys.readouterr().out
    assert "1 under way · last 3600 s: 4 requests" in text
    assert ("\x1b" in text, "bob\\x1b[2J" in text) == (False, True)
    assert main(["top"]) == 2
    assert "--once" in capsys.readouterr().err


def test_the_screen_is_left_as_it_was_found(environment: dict[str, str]) -> None:
    # Given the screen at a terminal, which takes single keys
    terminal = Terminal("top", *WINDOW, **environment)
    terminal.until("tallygate top", "4 requests", "ana", "claude-haiku-4-5", "budget of key bob")
    assert not terminal.is_plain()
    # When it is ended from elsewhere
    os.kill(terminal.process_id, signal.SIGTERM)
    # Then it ends well, and what is typed is shown again, and read line by line.
    assert terminal.exit_code() == 0
    assert terminal.is_plain_at_end


@pytest.mark.parametrize(("typed", "leaves"), [("q", True), ("Q", True), ("x", False)])
def test_q_leaves_and_other_keys_do_not(
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    leaves: bool,  # noqa: FBT001
) -> None:
    # Given a terminal that takes single keys, when one is pressed, then q alone leaves.
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as at_terminal:
        monkeypatch.setattr("sys.stdin", at_terminal)
        with single_keys():
            os.write(ours, typed.encode())
            assert is_left() is leaves
    os.close(ours)


def test_a_gateway_that_goes_away_is_told_on_the_screen(
    environment: dict[str, str], admin: RunningAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the screen, when the gateway goes (the last test of this module: it does not come back)
    terminal = Terminal("top", *WINDOW, "--interval", "0.5", **environment)
    terminal.until("4 requests", "budget of key bob", "4 requests")
    admin.stop()
    # Then that is said, the last figures stay, and Ctrl-C still leaves.
    terminal.until("no gateway answers", "claude-haiku-4-5")
    terminal.type("\x03")
    assert terminal.exit_code() == 0
    assert terminal.is_plain_at_end
    # And who asks such a gateway for the first time is told by the exit code.
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["top", "--once"]) == 69
