"""The page SQL: who may ask what, and answers that are the same as table and as file."""

import html
import io
import re
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.admin.ui.sql_examples import EXAMPLES
from tests.support.admin import MASTER_KEY, RunningAdmin
from tests.support.dashboard import LoggedIn, log_in
from tests.support.nats import NatsServer
from tests.support.query_reader import request_row, running_query_reader

HOSTILE = "<img src=x onerror=alert(1)>"
SOME = 28
ROWS = SOME * SOME
"""An answer of ALL has so many: each request with each."""
ALL = """\
SELECT a.request_id || b.request_id AS pair, a.key_alias, a.cost_usd
FROM requests AS a, requests AS b ORDER BY ALL"""


@pytest.fixture(scope="module", autouse=True)
def _reader(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    rows = [
        request_row(
            request_id=f"tg_{number:03d}",
            started_at=f"2026-11-{number % 20 + 1:02d} 10:00:00",
            key_alias=HOSTILE if number == 0 else "laptop",
            team_id="blue" if number % 7 == 0 else "red",
            cost_usd=f"{number}.000000000001",
        )
        for number in range(SOME)
    ]
    with running_query_reader(tmp_path_factory.mktemp("reader"), nats.url, rows):
        yield


@pytest.fixture(scope="module")
def master(admin: RunningAdmin) -> LoggedIn:
    return log_in(admin.url, MASTER_KEY)


def test_answer_is_a_table_with_its_types_and_limits(master: LoggedIn) -> None:
    # Given a query with more rows than are shown, when it is run, then the first of them stand
    # there, exact and harmless, with the types, and the page says that there are more.
    text = master.get("/ui/sql", q=ALL).text
    assert len(re.findall(r"<td class=\"cell\">tg_\d+tg_\d+</td>", text)) == 500
    assert '<td class="num">17.000000000001</td>' in text
    assert "decimal(18,12)" in text
    assert "500 rows, and there are more" in text
    assert HOSTILE not in text
    assert html.escape(HOSTILE) in text
    assert html.escape(ALL) in text, "the query stands in its editor"
    empty = master.get("/ui/sql", q="SELECT 1 WHERE false").text
    assert "No row" in empty


def test_days_and_names_are_drawn(master: LoggedIn) -> None:
    # Given an answer by day and name, when it is shown, then as a chart with all its names, too.
    text = master.get(
        "/ui/sql",
        q="SELECT started_at::DATE AS day, team_id, sum(cost_usd) AS cost_usd "
        "FROM requests GROUP BY ALL ORDER BY ALL",
    ).text
    assert 'data-chart="answer-chart-data"' in text
    assert re.findall(r'class="swatch c\d"></span><bdi>(\w+)</bdi>', text) == ["red", "blue"]


@pytest.mark.parametrize(("title", "query"), EXAMPLES)
def test_examples_can_be_asked(master: LoggedIn, title: str, query: str) -> None:
    # Given an example, when its link is followed, then it is answered.
    assert f'href="/ui/sql?q={quote(query)}">{title}</a>' in master.get("/ui/sql").text
    answer = master.get("/ui/sql", q=query).text
    assert 'id="answer-title"' in answer, answer


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT foo FROM requests", "LINE 1: SELECT foo FROM requests"),
        ("DELETE FROM requests", "one SELECT is allowed here"),
        ("SELECT read_text('/etc/passwd')", "is refused"),
        ("SELECT '" + "x" * 9000 + "'", "send longer ones to POST /ledger/sql"),
    ],
)
def test_what_is_wrong_with_a_query_is_said_beside_it(
    master: LoggedIn, query: str, said: str
) -> None:
    # Given a query that cannot be run, when it is, then the page says why, and keeps the query.
    text = html.unescape(master.get("/ui/sql", q=query).text)
    assert said in text
    assert query in text
    assert 'id="answer-title"' not in text


def test_files_hold_the_whole_answer_exactly(master: LoggedIn) -> None:
    # Given a query with more rows than the page shows, when its files are fetched, then each has
    # all rows, and money as decimals.
    expected = SOME * sum(Decimal(number) + Decimal("0.000000000001") for number in range(SOME))
    parquet = master.get("/ui/sql/result.parquet", q=ALL)
    assert 'filename="result.parquet"' in parquet.headers["content-disposition"]
    assert parquet.headers["x-tallygate-truncated"] == "false"
    arrow = master.get("/ui/sql/result.arrow", q=ALL)
    for table in (
        pq.read_table(io.BytesIO(parquet.content)),
        pa.ipc.open_stream(arrow.content).read_all(),
    ):
        assert table.num_rows == ROWS
        assert sum(table.column("cost_usd").to_pylist()) == expected
        assert str(table.schema.field("cost_usd").type) == "decimal128(18, 12)"
    csv = master.get("/ui/sql/result.csv", q=ALL).text
    assert len(csv.splitlines()) == ROWS + 1
    assert master.get("/ui/sql/result.xlsx", q=ALL).status_code == 404
    for name in ("csv", "parquet", "arrow"):
        wrong = master.get(f"/ui/sql/result.{name}", q="SELECT foo FROM requests")
        assert wrong.status_code == 400
        assert "not found in FROM clause" in html.unescape(wrong.text)


def test_file_that_was_cut_says_so(master: LoggedIn) -> None:
    # Given an answer of more rows than a file may have, when it is fetched as Parquet, then the
    # header says that it was cut, and so do the file's own metadata.
    cut = master.get("/ui/sql/result.parquet", q="SELECT 1 AS one FROM range(1000001)")
    assert cut.headers["x-tallygate-truncated"] == "true"
    metadata = pq.read_metadata(io.BytesIO(cut.content))
    assert metadata.num_rows == 1_000_000
    assert metadata.metadata[b"tallygate.truncated"] == b"after 1000000 rows"


def test_asking_needs_what_the_route_of_the_api_needs(
    admin: RunningAdmin, master: LoggedIn
) -> None:
    # Given a key without the permission, an analyst of a team and the master key, when each opens
    # the page, then the first may not, the second sees its team's rows, and the last sees all.
    nobody = log_in(admin.url, str(admin.generate(key_alias="nobody")["key"]))
    assert nobody.get("/ui/sql").status_code == 403
    assert nobody.get("/ui/sql/result.csv", q=ALL).status_code == 403
    assert 'href="/ui/sql"' not in nobody.get("/ui").text
    admin.http.post("/team/new", json={"team_id": "blue", "team_alias": "blue"})
    key = admin.generate(key_alias="ana", team_id="blue", analyst="team")["key"]
    analyst = log_in(admin.url, str(key))
    of_team = (SOME // 7) ** 2
    page = analyst.get("/ui/sql", q="SELECT DISTINCT team_id FROM requests").text
    assert '<td class="cell">blue</td>' in page
    assert '<td class="cell">red</td>' not in page
    assert "rows of the team blue" in page
    assert 'href="/ui/sql"' in page
    assert len(analyst.get("/ui/sql/result.csv", q=ALL).text.splitlines()) == of_team + 1
    parquet = analyst.get("/ui/sql/result.parquet", q=ALL).content
    assert pq.read_table(io.BytesIO(parquet)).num_rows == of_team
    everything = master.get("/ui/sql", q="SELECT DISTINCT team_id FROM requests").text
    assert '<td class="cell">red</td>' in everything


def test_documented_tables_stand_beside_the_editor(master: LoggedIn) -> None:
    # Given the ledger's own comments, when the page is opened, then each documented table is
    # there with its columns and what they mean.
    text = html.unescape(master.get("/ui/sql").text)
    assert "<summary><code>requests</code></summary>" in text
    assert "One row for each request that is over, refused ones included." in text
    assert 'data-insert="cache_write_1h_tokens"' in text
    assert "Tokens of the prompt written to the 1-hour cache." in text
    assert text.index("<code>requests</code>") < text.index("<code>audit_events</code>")
