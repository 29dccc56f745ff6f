"""What a developer sees in Claude Code when the gateway refuses (docs/claude-code.md) or masks."""

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from schemas.events import GuardrailHit, GuardrailTriggered
from services.guardrails import build_scanner
from tests.support.claude_code import log_in, run_claude
from tests.support.mock import MockAnthropic, Scenario, tool_round_trip
from tests.support.nats import running_nats
from tests.support.provocations import (
    API_KEY,
    LOGIN,
    OAUTH,
    PROVOCATIONS,
    SECRETS_OUT,
    SIGN_INS,
    TOKEN,
    Provocation,
    Stage,
    answers_under_way,
    stage_config,
)
from tests.support.proxy import running_proxy
from tests.support.refusals import documented_refusals
from tests.support.scripted import scripted_server
from tests.support.tap import Tap, running_tap

pytestmark = pytest.mark.claude

OWN = {OAUTH: "sk-ant-oat01-of-a-subscriber", API_KEY: "sk-ant-api03-of-a-developer"}


@pytest.fixture(scope="module")
def tap() -> Iterator[Tap]:
    with running_tap() as running:
        yield running


@pytest.fixture(scope="module")
def _stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    with (
        socket.socket() as unused,
        MockAnthropic.started(folder) as mock,
        running_nats(folder) as nats,
        scripted_server() as scripted,
    ):
        unused.bind(("127.0.0.1", 0))
        config = stage_config(mock, scripted, unused.getsockname()[1])
        with running_proxy(folder, nats.url, config) as proxy:
            yield Stage(proxy=proxy, nats=nats, mock=mock, scripted=scripted, folder=folder)


@pytest.fixture
def stage(_stage: Stage, tmp_path: Path) -> Stage:
    """The stage of the module, in order again, with a folder of this test's own."""
    _stage.mock.reset()
    folder = tmp_path / "stage"
    folder.mkdir()
    return Stage(
        proxy=_stage.proxy,
        nats=_stage.nats,
        mock=_stage.mock,
        scripted=_stage.scripted,
        folder=folder,
    )


def environment_of(variable: str, key: str | None, headers: tuple[str, ...]) -> dict[str, str]:
    """Return the variables of a client that signs in in one way and sends a virtual key."""
    if variable == TOKEN:
        assert key is not None
        return {TOKEN: key}
    sent = [] if key is None else [f"x-litellm-api-key: Bearer {key}"]
    custom = {"ANTHROPIC_CUSTOM_HEADERS": "\n".join([*sent, *headers])}
    return custom if variable == LOGIN else {variable: OWN[variable], **custom}


@pytest.mark.parametrize("provocation", PROVOCATIONS, ids=lambda each: each.name)
def test_each_refusal_is_shown_as_the_table_says(
    stage: Stage, tap: Tap, tmp_path: Path, provocation: Provocation
) -> None:
    # given what makes the gateway refuse
    row = documented_refusals()[provocation.row]
    sign_in = SIGN_INS[provocation.variable]
    with provocation.provoke(stage) as asking:
        tap.point_at((asking.proxy or stage.proxy).url, network=asking.network)
        if provocation.variable == LOGIN:
            log_in(tmp_path, OWN[OAUTH])
        signed_in = environment_of(provocation.variable, asking.key, asking.headers)
        # when the real client asks
        answer = run_claude(
            tap.url,
            None,
            asking.prompt,
            home=tmp_path,
            oauth_token=None,
            model=asking.model,
            extra_environment={
                **signed_in,
                "CLAUDE_CODE_MAX_RETRIES": str(provocation.retries),
            },
        )
        asked = list(tap.exchanges)
    # then it asked as often as the table says, and got the same refusal each time
    assert len(asked) == row.requests_for(sign_in, provocation.retries)
    for exchange in asked:
        assert exchange.status == row.status, exchange.answer_body
        error = json.loads(exchange.answer_body)
        assert error["error"]["type"] == row.error_type
        assert provocation.says in error["error"]["message"]
        assert exchange.answer_header("request-id") == error["request_id"]
        assert {name for name, _ in exchange.answer_headers} >= {
            *row.headers,
            "x-tallygate-request-id",
        }
    # and what it shows is what the table says, word for word
    message = json.loads(asked[-1].answer_body)["error"]["message"]
    shown = row.text(sign_in).replace("HOST", tap.url.removeprefix("http://"))
    assert answer.result == shown.replace("NAME", asking.model).replace("MSG", message)
    assert (answer.exit_code, answer.is_error) == (1, True)
    assert answer.api_error_status == row.status


def test_rate_limit_that_has_room_soon_is_waited_for_and_the_work_goes_on(
    stage: Stage, tap: Tap, tmp_path: Path
) -> None:
    # Given a key whose one request at a time is under way,
    key = stage.proxy.issue_key(max_parallel_requests=1)
    stage.mock.set_default(Scenario(fault="stall", fault_after_events=2))
    tap.point_at(stage.proxy.url)
    with ThreadPoolExecutor(1) as pool:
        with answers_under_way(stage.proxy, key, 1):
            # when the real client asks and is refused, and the other one is over after that,
            running = pool.submit(run_claude, tap.url, key, "say hi", home=tmp_path)
            deadline = time.monotonic() + 60
            while not tap.exchanges and not running.done():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            stage.mock.reset()
        answer = running.result()
    # then it asks again by itself, and its user sees the answer and nothing of the limit.
    assert {each.status for each in tap.exchanges[:-1]} == {429}
    assert tap.exchanges[-1].status == 200
    assert (answer.exit_code, answer.is_error) == (0, False), answer.result


def test_a_secret_that_a_tool_reads_is_masked_in_each_request_and_the_work_goes_on(
    stage: Stage, tap: Tap, tmp_path: Path
) -> None:
    # Given a file with a token in it, and a key whose requests are masked,
    token = "ghp_" + hashlib.sha256(b"of no account").hexdigest()[:36]
    project = tmp_path / "project"
    project.mkdir()
    secrets = project / "secrets.env"
    secrets.write_text(f'export TOKEN="{token}"\nexport COLOUR="violet é"\n')
    reads = tool_round_trip(secrets)
    first, last = reads.tools
    stage.mock.set_default(msgspec.structs.replace(reads, tools=(last, first)))
    tap.point_at(stage.proxy.url)
    # when the real client reads the file and goes on,
    answer = run_claude(
        tap.url,
        stage.proxy.issue_key(guardrails=(SECRETS_OUT,)),
        "read it, then run echo",
        home=tmp_path,
        extra_args=["--allowedTools", "Bash"],
    )
    # then it gets its answer,
    assert (answer.exit_code, answer.is_error) == (0, False), answer.result
    asked = [exchange.body for exchange in tap.exchanges if exchange.path == "/v1/messages"]
    sent = [record.body for record in stage.mock.messages()]
    # its requests held the token, those that were sent on hold a mask in its place and are the
    # same else, byte for byte but for the model's name,
    assert [body.count(token.encode()) > 0 for body in asked] == [False, True, True]
    masked = [body.replace(token.encode(), b"[MASKED:github-pat]") for body in asked]
    alias, model = b'"model":"anthropic-claude"', b'"model":"claude-sonnet-4-20250514"'
    assert sent == [body.replace(alias, model, 1) for body in masked]
    # what the client itself says in them, personal data would be found in neither,
    people = build_scanner("personal_data", {})
    assert [people.scan(body.decode()) for body in asked] == [[], [], []]
    # and what was told is one finding.
    told = [(hit.action, each.rule, each.count) for hit in _hits(stage) for each in hit.findings]
    assert told == [("mask", "github-pat", 1)]


def _hits(stage: Stage) -> list[GuardrailHit]:
    """Return what the guardrail that masks has told, as soon as it has told something."""
    deadline = time.monotonic() + 60
    while True:
        told = [each.data for each in stage.proxy.events() if isinstance(each, GuardrailTriggered)]
        hits = [hit for hit in told if hit.guardrail == SECRETS_OUT]
        if hits:
            return hits
        assert time.monotonic() < deadline
        time.sleep(0.02)
