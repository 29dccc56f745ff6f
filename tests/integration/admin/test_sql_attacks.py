"""The attack corpus through the doors of HTTP: `POST /ledger/sql` and `tallygate sql`."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.client.cli import main
from services.ledger.query import QueryService
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader
from tests.support.sql_corpus import INVALID, REFUSED, harm_state, names_what_is_wrong

ATTACKS = {**REFUSED, **INVALID}
Reader = tuple[QueryService, Path]


@pytest.fixture(scope="module")
def reader(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    rows = [
        request_row(request_id=f"tg_{number}", cost_usd="0.249754000000") for number in range(50)
    ]
    with running_query_reader(folder, nats.url, rows) as service:
        yield service, folder


@pytest.mark.parametrize("asker", ["master key", "analyst of a team"])
def test_every_attack_over_http_is_refused_by_name_and_harms_nothing(
    admin: RunningAdmin, reader: Reader, asker: str
) -> None:
    # Given the attack corpus, when each statement is posted, by the master key or an analyst, then
    # it is refused, the error names what is wrong, and the books are as before.
    assert len(REFUSED) >= 60
    service, folder = reader
    key, attacks = MASTER_KEY, [*ATTACKS.items()]
    if asker == "analyst of a team":
        key = str(admin.generate(team_id="t", analyst=True)["key"])
        attacks = attacks[::4]  # each makes views first; the rules before them are the same
    before = harm_state(service._root, folder)
    unclear = {}
    for name, text in attacks:
        body = {"query": text, "parameters": [5] if "$1" in text else []}
        reply = admin.http.post(
            "/ledger/sql", json=body, headers={"Authorization": f"Bearer {key}"}
        )
        error = reply.json().get("error", {})
        message = str(error.get("message"))
        if reply.status_code != 400 or not names_what_is_wrong(text, message):
            unclear[name] = (reply.status_code, message)
        assert error.get("type") == "invalid_request_error", (name, reply.text)
        assert str(folder) not in message
    assert unclear == {}
    assert harm_state(service._root, folder) == before


def test_every_attack_on_the_command_line_is_refused_by_name_and_harms_nothing(
    admin: RunningAdmin,
    reader: Reader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Given the attack corpus, when `tallygate sql` is asked each, then it fails with exit code 1,
    # nothing on standard output and an error that names what is wrong; the books are as before.
    service, folder = reader
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLYGATE_URL", admin.url)
    monkeypatch.setenv("LITELLM_MASTER_KEY", MASTER_KEY)
    before = harm_state(service._root, folder)
    unclear = {}
    for name, text in ATTACKS.items():
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code = main(["sql", "-"])
        output = capsys.readouterr()
        message = output.err.removeprefix("tallygate: ")
        if (code, output.out) != (1, "") or not names_what_is_wrong(text, message):
            unclear[name] = (code, output.out, output.err)
    assert unclear == {}
    assert harm_state(service._root, folder) == before
    assert [*tmp_path.iterdir()] == []
