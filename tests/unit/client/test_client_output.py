"""What the client commands print, and what they read from options. Pure."""

import csv
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import rich_click as click
from hypothesis import given
from hypothesis import strategies as st

from services.client.credentials import find_key
from services.client.gateway import EXIT_UNAUTHENTICATED, ClientError, Gateway
from services.client.models import per_million
from services.client.output import cell_text, csv_text, dollars
from services.client.settings import read_settings


@given(st.text())
def test_no_cell_can_move_the_cursor(text: str) -> None:
    # Given any text, when it is shown in a table, then every character is printable.
    assert cell_text(text).isprintable()


@given(st.lists(st.tuples(st.text(), st.decimals(allow_nan=False, allow_infinity=False))))
def test_raw_csv_reads_back_exactly(rows: list[tuple[str, Decimal]]) -> None:
    # Given any rows, when they are written as raw CSV, then a reader gets the same texts.
    columns = [("=name", "VARCHAR"), ("n", "DECIMAL(18,12)")]
    text = csv_text(columns, [[name, str(number)] for name, number in rows], raw=True)
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read == [["=name", "n"], *([name, str(number)] for name, number in rows)]


@given(st.text(min_size=1))
def test_no_text_cell_of_csv_is_a_formula(text: str) -> None:
    # Given any text, when it is written as CSV, then its cell begins as no formula does.
    written = csv_text([("a", "VARCHAR")], [[text]], raw=False)
    cell = list(csv.reader(io.StringIO(written, newline="")))[1][0]
    assert cell[0] not in "=+-@\t\r"
    assert cell.removeprefix("'") == text.removeprefix("'")


def test_numbers_and_null_are_no_text() -> None:
    rows: list[list[Any]] = [["-1.5", None, True, [1]]]
    columns = [("a", "DECIMAL(2,1)"), ("b", "VARCHAR"), ("c", "BOOLEAN"), ("d", "INTEGER[]")]
    assert csv_text(columns, rows, raw=False) == "a,b,c,d\r\n-1.5,,true,[1]\r\n"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, ""), (Decimal(0), "$0.00"), (Decimal("0.249754"), "$0.249754")],
)
def test_money_for_people(amount: Decimal | None, text: str) -> None:
    assert dollars(amount) == text


def test_only_named_settings_are_sent() -> None:
    # Given some options, when they become a body, then what was not named is not in it.
    settings = {"alias": "a", "model": ("m",), "max_budget": "$0.10", "tag": (), "user_id": None}
    assert read_settings(settings) == {
        "key_alias": "a",
        "models": ("m",),
        "max_budget": Decimal("0.10"),
    }
    assert read_settings({"unset": ("max-budget", "alias")}) == {
        "max_budget": None,
        "key_alias": None,
    }
    with pytest.raises(click.BadParameter, match="both given and unset"):
        read_settings({"alias": "a", "unset": ("alias",)})


def test_prices_are_told_per_million_tokens_with_every_digit() -> None:
    # Given prices of a token, when they are shown, then of a million, without zeros at the end.
    assert per_million(Decimal("0.0000035")) == "3.5"
    assert per_million(Decimal("0.000100")) == "100"
    assert per_million(Decimal("0.000000037512")) == "0.037512"
    assert per_million(None) == ""


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-1", "ten", ""])
def test_amount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        read_settings({"max_budget": text})


def test_missing_master_key_says_where_it_was_looked_for(tmp_path: Path) -> None:
    # Given no master key anywhere, when it is looked for, then the message names each place.
    with pytest.raises(ClientError, match="LITELLM_MASTER_KEY") as missing:
        find_key(None, tmp_path / "data", {})
    assert missing.value.exit_code == EXIT_UNAUTHENTICATED
    assert not (tmp_path / "data").exists()
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    with pytest.raises(ClientError, match="no text"):
        find_key(tmp_path / "bad", tmp_path, {})


@pytest.mark.parametrize(
    ("url", "in_the_clear"),
    [
        ("http://127.0.0.1:4000", False),
        ("http://[::1]:4000", False),
        ("http://localhost:4000/", False),
        ("https://gateway.example", False),
        ("http://gateway.example", True),
        ("http://10.0.0.1:4000", True),
    ],
)
def test_master_key_over_plain_http_is_noticed(url: str, in_the_clear: bool) -> None:  # noqa: FBT001
    with Gateway(url, "sk-x") as gateway:
        assert gateway.is_in_the_clear is in_the_clear


@pytest.mark.parametrize("url", ["gateway:4000", "ftp://gateway", "http://", "", "/x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ClientError, match="no URL"):
        Gateway(url, "sk-x")
