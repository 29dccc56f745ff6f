"""Statements, marks below errors, completion, and the file of the history: without a terminal."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.client.shell_line import Completer, history_path
from services.client.sql_text import pointed, split


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("SELECT 1;", ["SELECT 1"], ""),
        ("SELECT 1; SELECT 2; SEL", ["SELECT 1", " SELECT 2"], " SEL"),
        ("SELECT ';'", [], "SELECT ';'"),
        ("SELECT 'it''s;';x", ["SELECT 'it''s;'"], "x"),
        ("SELECT e'\\';';", ["SELECT e'\\';'"], ""),
        ("SELECT a_e'\\';", ["SELECT a_e'\\'"], ""),
        ('SELECT ";" ;', ['SELECT ";" '], ""),
        ("SELECT $$;$$;", ["SELECT $$;$$"], ""),
        ("SELECT $a$;$$;$a$;", ["SELECT $a$;$$;$a$"], ""),
        ("SELECT $1;", ["SELECT $1"], ""),
        ("SELECT 1 -- ;\n;", ["SELECT 1 -- ;\n"], ""),
        ("SELECT 1 -- it's;", [], "SELECT 1 -- it's;"),
        ("SELECT /* ; /* ; */ ; */ 1;", ["SELECT /* ; /* ; */ ; */ 1"], ""),
        ("SELECT 'open; /* ", [], "SELECT 'open; /* "),
    ],
)
def test_semicolons_end_statements_only_where_they_stand_alone(
    text: str, statements: list[str], rest: str
) -> None:
    # given a text with semicolons in quotes and comments, when it is split, then only at the others
    assert split(text) == (statements, rest)


@given(st.text(alphabet="ab;'\"$-/*e\\\n ", max_size=40))
def test_splitting_loses_nothing(text: str) -> None:
    # given any text, when it is split, then the parts and their semicolons are the text again
    statements, rest = split(text)
    assert "".join(f"{statement};" for statement in statements) + rest == text


def test_mark_stands_below_the_place_of_the_error() -> None:
    # given an error at a character, when it is shown, then the mark is below it in its line
    statement = "SELECT 'ä',\n  'é' FRM x"
    place = statement.index("FRM") + 1
    shown = pointed(statement, f"syntax error (at character {place})").split("\n")
    assert shown[1] == "line 2:   'é' FRM x"
    assert shown[1][shown[2].index("^") :] == "FRM x"
    assert pointed(statement, "another error") == "another error"


def test_tab_completes_what_fits_the_place() -> None:
    # given the names of the ledger, when words are begun, then what they may become fits the place
    names = {"requests": ["cost_usd", "model"], "keys": ["key_id", "model"]}
    completer = Completer(names, [".mode", ".schema"], ["table", "json"])

    def candidates(line: str) -> list[str]:
        return completer.candidates(line, line.rpartition(" ")[2])

    assert candidates(".s") == [".schema"]
    assert candidates(".mode j") == ["json"]
    assert candidates(".schema re") == ["requests"]
    assert candidates(".tables x") == []
    assert candidates("SELECT mod") == ["model"]
    assert candidates("SELECT keys.") == ["keys.key_id", "keys.model"]
    assert candidates("SELECT r.co") == ["r.cost_usd"]
    assert candidates("SEL") == ["SELECT"]
    assert candidates("sel") == ["select"]


def test_history_has_its_place(tmp_path: Path) -> None:
    # given settings of the environment, when the history's file is asked for, then they decide
    home = {"HOME": str(tmp_path)}
    assert history_path(home) == tmp_path / ".local/state/tallygate/sql_history"
    assert history_path(home | {"XDG_STATE_HOME": "/s"}) == Path("/s/tallygate/sql_history")
    assert history_path(home | {"TALLYGATE_SQL_HISTORY": "/h"}) == Path("/h")
    assert history_path(home | {"TALLYGATE_SQL_HISTORY": ""}) is None
    assert history_path({}) is None
