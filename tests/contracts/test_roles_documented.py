"""The table of routes and roles in docs/admin-api.md: every route, every role, as in the code."""

import re
from pathlib import Path

import pytest

from schemas.registry import KeyRecord, UserRole
from services.admin.access import Access, is_admitted
from services.admin.app import ROUTES
from services.admin.principal import MASTER, Principal

DOCUMENT = (Path(__file__).parents[2] / "docs" / "admin-api.md").read_text()
ACCESS: dict[str, Access] = {
    re.sub(r":\w+}", "}", f"{method} {path}"): handler.opt["access"]
    for handler in ROUTES
    for path in sorted(handler.paths)
    for method in handler.http_methods
    if handler.opt["access"] != "public"
}
KEY = KeyRecord(key_id="k", key_hash="0" * 64, key_name="sk-...0000")


def principal(role: UserRole | None, *, administers: bool = False) -> Principal:
    teams = frozenset({"blue"} if administers else ())
    user_id = None if role is None else "u"
    return Principal(key=KEY, role=role, user_id=user_id, teams=teams, teams_administered=teams)


COLUMNS = {
    "`proxy_admin`": principal("proxy_admin"),
    "`proxy_admin_viewer`": principal("proxy_admin_viewer"),
    "`internal_user`": principal("internal_user"),
    "`internal_user_viewer`": principal("internal_user_viewer"),
    "team admin": principal("internal_user_viewer", administers=True),
    "no role": principal(None),
}


def table() -> dict[str, dict[str, str]]:
    """Return the cells by route and column."""
    lines = re.findall(r"^\| (?:route|`(?:GET|POST|PATCH|PUT|DELETE) ).*$", DOCUMENT, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    header, *routes = next(
        rows[start:] for start, row in enumerate(rows) if row[0] == "route" and len(row) > 2
    )
    return {row[0].strip("`"): dict(zip(header[1:], row[1:], strict=True)) for row in routes}


TABLE = table()


def test_every_route_has_its_row_and_every_role_its_column() -> None:
    # Given the routes that ask for a credential, when the table is read, then it has just these.
    assert sorted(TABLE) == sorted(ACCESS)
    assert {tuple(row) for row in TABLE.values()} == {tuple(COLUMNS)}


@pytest.mark.parametrize("route", sorted(ACCESS))
def test_each_role_may_call_what_the_table_says(route: str) -> None:
    # Given a route, when each role asks for it, then it is refused where the table has a dash.
    access = ACCESS[route]
    admitted = {name: is_admitted(caller, access) for name, caller in COLUMNS.items()}
    assert {name: cell != "–" for name, cell in TABLE[route].items()} == admitted
    assert is_admitted(MASTER, access)
    for name, cell in TABLE[route].items():
        assert (cell == "all") == (COLUMNS[name].sees_all and admitted[name])
        assert (cell == "analyst") == (access == "analyst" and not COLUMNS[name].sees_all)
