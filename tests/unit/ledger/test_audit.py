"""The history of the registry: every change once, field by field, and never a hash of a key."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from schemas import events
from schemas.prices import PriceChange, Repricing
from schemas.registry import ConfigChange, KeyRecord, ModelRecord, TeamRecord
from schemas.streams import CONFIG_SUBJECT, REGISTRY, key_subject, model_subject, team_subject
from services.admin.bodies_audit import Action, ObjectType
from services.ledger import rows
from services.ledger.audit import AuditTable
from services.ledger.audit_rows import _DECODERS
from services.ledger.price_history import PriceState
from services.ledger.price_rows import price_change_row
from services.ledger.reprice_rows import DueRepricing, RepriceCount, _row
from services.ledger.store import Store
from services.runtime.bus import StreamMessage
from services.runtime.price_book import PriceBook

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
HASH = "a" * 64
ORIGIN = {"clientaddress": "10.1.2.3", "route": "POST /key/update", "requestid": "tg_1"}
KEY = KeyRecord(
    key_id="key_1", key_hash=HASH, key_name="sk-...abcd", key_alias="ana", updated_by="master_key"
)
TEAM = TeamRecord(team_id="blue", team_alias="Blue", updated_by="master_key")


def message(sequence: int, change: Any, data: Any, subject: str, **origin: str) -> StreamMessage:
    event = change(source="/admin", id=str(sequence), time=AT, data=data, **origin)
    return StreamMessage(sequence, subject, events.encode_event(event))


def key_message(sequence: int, change: Any, record: KeyRecord, **origin: str) -> StreamMessage:
    return message(sequence, change, record, key_subject(record.key_id), **origin)


@pytest.fixture
def store() -> Any:
    store = Store(Path(":memory:"))
    yield store
    store.close()


def audited(store: Store, columns: str = "*") -> list[tuple[Any, ...]]:
    select = f"SELECT {columns} FROM audit_events ORDER BY stream, stream_sequence"
    return store.connection.execute(select).fetchall()


def history() -> list[StreamMessage]:
    """A key that is made, changed from a client, blocked, rotated and deleted; a team between."""
    changed = msgspec.structs.replace(
        KEY, max_budget_usd=Decimal("10.000000000001"), models=("a", "b"), updated_at_us=5
    )
    blocked = msgspec.structs.replace(changed, blocked=True)
    rotated = msgspec.structs.replace(blocked, key_hash="b" * 64, key_name="sk-...wxyz")
    return [
        key_message(1, events.KeyCreated, KEY),
        key_message(3, events.KeyUpdated, changed, **ORIGIN),
        message(4, events.TeamCreated, TEAM, team_subject("blue")),
        key_message(5, events.KeyBlocked, blocked),
        key_message(6, events.KeyRotated, rotated),
        key_message(8, events.KeyDeleted, msgspec.structs.replace(rotated, deleted=True)),
    ]


@pytest.mark.parametrize("at_once", [1, 2, 6])
def test_each_change_says_what_it_changed_from_what_to_what(store: Store, at_once: int) -> None:
    # Given a history, when it is taken in, in whatever parts, then each change has the fields that
    # changed, with their values before and after, and where it came from.
    table = AuditTable(store)
    messages = history()
    for start in range(0, len(messages), at_once):
        table.take(messages[start : start + at_once])
    found = audited(
        store, "stream_sequence, action, object_id, object_name, changed_fields, before, after"
    )
    assert [row[:4] for row in found] == [
        (1, "created", "key_1", "ana"),
        (3, "updated", "key_1", "ana"),
        (4, "created", "blue", "Blue"),
        (5, "blocked", "key_1", "ana"),
        (6, "rotated", "key_1", "ana"),
        (8, "deleted", "key_1", "ana"),
    ]
    assert found[0][4:6] == (["key_id", "key_name", "key_alias"], None)
    assert found[1][4] == ["max_budget_usd", "models"]
    assert msgspec.json.decode(found[1][5]) == {"models": [], "max_budget_usd": None}
    assert msgspec.json.decode(found[1][6]) == {
        "models": ["a", "b"],
        "max_budget_usd": "10.000000000001",
    }
    assert [row[4] for row in found[3:]] == [["blocked"], ["key_name"], ["deleted"]]
    assert (found[3][5], found[3][6]) == ('{"blocked":false}', '{"blocked":true}')
    origins = audited(store, "changed_by, client_address, route, request_id")
    assert origins[1] == ("master_key", "10.1.2.3", "POST /key/update", "tg_1")
    assert origins[3] == ("master_key", None, None, None)


def test_no_hash_of_a_key_is_in_the_table(store: Store) -> None:
    # Given keys whose records have hashes, when all cells are searched, then none is there; what a
    # user wrote into metadata stays as it is.
    record = msgspec.structs.replace(KEY, metadata={"file_hash": "mine"})
    AuditTable(store).take([*history(), key_message(9, events.KeyUpdated, record)])
    text = str(store.connection.execute("SELECT * FROM registry_changes").fetchall())
    assert HASH not in text
    assert "b" * 64 not in text
    assert '"file_hash":"mine"' in text


def test_table_goes_on_where_it_stopped_and_begins_anew_with_another_stream(store: Store) -> None:
    # Given a table of one stream, when it is opened again, then it goes on after its last message;
    # another stream of that name is another history.
    table = AuditTable(store)
    assert table.last_of("first") == 0
    table.take(history())
    assert AuditTable(store).last_of("first") == 8
    assert AuditTable(store).last_of("second") == 0
    assert audited(store) == []


def test_what_cannot_be_read_is_left_out_and_stops_nothing(store: Store) -> None:
    # Given bytes that are no event, an event in another one's place and a kind of a later version,
    # when they come among others, then the others are written down.
    stray = key_message(2, events.KeyUpdated, KEY)
    AuditTable(store).take(
        [
            StreamMessage(1, key_subject("key_1"), b"[]"),
            StreamMessage(2, key_subject("key_2"), stray.payload),
            StreamMessage(3, "registry.future.x", b"{}"),
            key_message(4, events.KeyCreated, KEY),
        ]
    )
    assert audited(store, "stream_sequence") == [(4,)]


def test_models_and_the_configuration_are_in_it(store: Store) -> None:
    # Given a model and two files, when they are taken in, then the digest before and after is told.
    model = ModelRecord(
        model_id="m1", model_name="claude-x", litellm_params={"model": "anthropic/claude-x"}
    )
    first = ConfigChange(sha256="1" * 64, path="config.yaml", changed_by="SIGHUP")
    second = ConfigChange(sha256="2" * 64, path="config.yaml", changed=("timezone",))
    AuditTable(store).take(
        [
            message(1, events.ModelCreated, model, model_subject("m1")),
            message(2, events.ConfigChanged, first, CONFIG_SUBJECT),
            message(3, events.ConfigChanged, second, CONFIG_SUBJECT),
        ]
    )
    found = audited(store, "object_type, object_id, object_name, action, changed_by, before")
    assert found[0][:4] == ("model", "m1", "claude-x", "created")
    assert found[1][:5] == ("config", "file", "config.yaml", "changed", "SIGHUP")
    assert msgspec.json.decode(found[2][5])["sha256"] == "1" * 64


def test_prices_and_repricings_are_in_it(store: Store) -> None:
    # Given changes of each part of the prices and a repricing, when the view is read, then each
    # says what it was before, and of a book its version alone.
    origin = {"client_address": "10.1.2.3", "route": "POST /reprice", "request_id": "tg_2"}
    book = PriceBook.shipped().content
    changes = [
        PriceState(1, PriceChange(kind="book", book=book, changed_by="version")),
        PriceState(2, PriceChange(kind="api", changed_by="master_key", **origin)),
        PriceState(3, PriceChange(kind="api", changed_by="key_1")),
    ]
    store._insert(
        "price_changes", rows.PRICE_CHANGE_COLUMNS, [price_change_row(each) for each in changes]
    )
    repricing = Repricing(from_us=0, reason="late", repriced_by="master_key", **origin)
    row = _row(DueRepricing(4, repricing, PriceBook.shipped()), RepriceCount(), is_applied=True)
    store._insert("repricings", rows.REPRICING_COLUMNS, [row])
    found = audited(
        store, "object_type, object_id, action, changed_by, client_address, route, before, after"
    )
    assert [row[:6] for row in found] == [
        ("prices", "book", "changed", "version", None, None),
        ("prices", "api", "changed", "master_key", "10.1.2.3", "POST /reprice"),
        ("prices", "api", "changed", "key_1", None, None),
        ("requests", "", "repriced", "master_key", "10.1.2.3", "POST /reprice"),
    ]
    assert msgspec.json.decode(found[0][7]) == {"version": book.version.isoformat()}
    assert [row[6] for row in found[:3]] == [None, None, '{"entries":[]}']
    assert msgspec.json.decode(found[3][7])["unpriced_requests"] == 0


def test_every_kind_of_change_can_be_asked_for() -> None:
    # Given all events of the registry, when their kinds are compared with what GET /audit takes,
    # then none is missing: a new kind of event comes with its word.
    unions = (events.KeyEvent, events.TeamEvent, events.UserEvent, events.ModelEvent)
    kinds = [kind for union in unions for kind in get_args(union)] + [events.ConfigChanged]
    tags = [str(kind.__struct_config__.tag).split(".") for kind in kinds]
    assert {action for _, action, _ in tags} <= set(get_args(Action))
    assert {object_type for object_type, _, _ in tags} <= set(get_args(ObjectType))
    subjects = {subject.split(".")[1] for subject in REGISTRY.subjects}
    assert subjects == set(_DECODERS)
