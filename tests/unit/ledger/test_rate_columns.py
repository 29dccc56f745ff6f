"""Rate limits of keys, teams and users stand in the books as they stand in the registry."""

from pathlib import Path

from schemas.registry import RATE_MAX, KeyRecord, TeamRecord, UserRecord
from services.ledger.store import Store


def test_rate_limits_are_columns_of_keys_teams_and_users() -> None:
    # Given limits, the largest among them, when the records are put into the books, then each is
    # in its column, and where there is none it is NULL.
    store = Store(Path(":memory:"))
    limits = {"rpm_limit": 60, "tpm_limit": RATE_MAX}
    store.put_keys([KeyRecord(key_id="k", key_hash="0" * 64, key_name="sk-...a", **limits)])
    store.put_owners(
        [TeamRecord(team_id="t", max_parallel_requests=4), UserRecord(user_id="u", **limits)]
    )
    ask = store.connection.execute
    columns = "rpm_limit, tpm_limit, max_parallel_requests"
    expected = {
        "keys": (60, RATE_MAX, None),
        "teams": (None, None, 4),
        "users": (60, RATE_MAX, None),
    }
    for table, row in expected.items():
        assert ask(f"SELECT {columns} FROM {table}").fetchall() == [row]
    store.close()
