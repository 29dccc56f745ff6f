"""Reports about spend for those who may see their own alone: conditions that each row must meet.

A caller's own are the rows of its key, of its user, and of the teams that it manages, by what each
row says of itself: what a key spent for another team before is that team's.
"""

from schemas.errors import NotFound
from services.admin.directory import find_key
from services.admin.principal import Principal
from services.admin.sql_where import Conditions
from services.runtime.registry import RegistrySnapshot

__all__ = ["add_own", "key_id_of", "own_listed"]


def add_own(conditions: Conditions, caller: Principal) -> None:
    """Add that rows of `requests` or `spend_parts` are the caller's own, unless it sees all."""
    if not caller.sees_all:
        template, values = _own(caller, "key_id user_id team_id")
        conditions.add(template, *values)


def own_listed(sql: str, conditions: Conditions, caller: Principal, columns: str) -> str:
    """Return the SQL of a list, narrowed to what spent anything in it or is the caller's own.

    `conditions` are those that `sql` was made with; they get the parameters. `columns` are those
    of the list that may tell whose a row is: of `key_id`, `user_id` and `team_id`, with spaces
    between.
    """
    if caller.sees_all:
        return sql
    own = Conditions()
    own.parameters = conditions.parameters
    template, values = _own(caller, columns)
    own.add(template, *values)
    return f"SELECT * FROM ({sql}) {own.where} OR requests <> 0"  # noqa: S608 - ours


def key_id_of(snapshot: RegistrySnapshot, given: str | None, caller: Principal) -> str | None:
    """Return the id of the key that a filter names, deleted ones too. Raises NotFound.

    A key that the caller may not see is not told from one that is not there.
    """
    if given is None:
        return None
    record = find_key(snapshot, given, with_deleted=True)
    if record is None or not caller.sees_key(record):
        raise NotFound("Key not found in the registry", param="api_key")
    return record.key_id


def _own(caller: Principal, columns: str) -> tuple[str, list[object]]:
    """Return the template of a condition, and its values."""
    assert caller.key is not None, "the master key sees all"
    texts: list[str] = []
    values: list[object] = []
    for column, value, text in (
        ("key_id", caller.key.key_id, "key_id = {{{}}}::VARCHAR"),
        ("user_id", caller.user_id if caller.role else None, "user_id = {{{}}}::VARCHAR"),
        (
            "team_id",
            sorted(caller.teams_administered) or None,
            "list_contains({{{}}}::VARCHAR[], team_id)",
        ),
    ):
        if column in columns.split() and value is not None:
            texts.append(text.format(len(values)))
            values.append(value)
    return f"({' OR '.join(texts) or 'FALSE'})", values
