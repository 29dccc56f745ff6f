"""The pure rules of the admin service: money, credentials, failures, fields, records, spend."""

from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadRequest
from schemas.registry import KeyRecord
from services.admin.bodies import GenerateKey, KeyListQuery, UpdateKey
from services.admin.credentials import find_candidates
from services.admin.directory import alias_holders, find_key, page_of_keys
from services.admin.failures import ADDRESSES_MAX, FAILURES_MAX, WINDOW_S, FailureLimit
from services.admin.fields import KEY_FIELDS_WITHOUT_MEANING, refuse_unknown_fields
from services.admin.money import BUDGET_USD_MAX, budget_problem, plain_number
from services.admin.principal import MASTER
from services.admin.reading import decode_body
from services.admin.records import Issue, chosen_key_id, created_record, updated_record
from services.admin.shapes import KeySpend, key_state, status_of, window_of
from services.admin.spend_sql import days_from
from services.runtime.registry import RegistrySnapshot

NOW_US = 1_795_478_400_000_000  # 2026-11-24 00:00 UTC
ISSUE = Issue(now_us=NOW_US, by="master_key")
amounts = st.decimals(
    min_value=0, max_value=BUDGET_USD_MAX, places=12, allow_nan=False, allow_infinity=False
)


@given(amounts)
def test_every_budget_survives_json_exactly(amount: Decimal) -> None:
    # Given any amount with twelve places, when it is read from JSON, kept and written, then it
    # is the same.
    body = decode_body(b'{"max_budget":' + f"{amount:f}".encode() + b"}", GenerateKey, {})
    record = created_record(body, "sk-x", "key_1", ISSUE)
    assert record.max_budget_usd == amount
    written = msgspec.json.Encoder(decimal_format="number").encode(record.max_budget_usd)
    assert Decimal(written.decode()) == amount


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_any_number_is_a_budget_or_has_a_named_problem(amount: Decimal) -> None:
    # Given any decimal at all, when it is checked, then nothing raises, and what passes is exact.
    if budget_problem(amount) is None:
        assert 0 <= amount <= BUDGET_USD_MAX
        assert plain_number(amount) == amount
        assert amount * 10**12 == int(amount * 10**12)


@pytest.mark.parametrize(
    ("text", "plain"), [("0.249754000000", "0.249754"), ("100.00", "100"), ("1E+2", "100")]
)
def test_plain_numbers_have_no_needless_digits(text: str, plain: str) -> None:
    assert str(plain_number(Decimal(text))) == plain


@pytest.mark.parametrize(
    ("headers", "candidates"),
    [
        ([], []),
        ([("x-litellm-api-key", "sk-a")], ["sk-a"]),
        ([("x-litellm-api-key", "Bearer sk-a")], ["sk-a"]),
        ([("x-litellm-api-key", "bearer   sk-a ")], ["sk-a"]),
        ([("authorization", "Bearer sk-a")], ["sk-a"]),
        ([("authorization", "sk-a")], []),
        ([("authorization", "Basic sk-a")], []),
        ([("authorization", "Bearer sk-ant-oat01-x")], []),
        ([("x-api-key", "sk-a"), ("authorization", "Bearer sk-b")], ["sk-b", "sk-a"]),
        ([("x-api-key", "sk-a"), ("x-litellm-api-key", "sk-b")], ["sk-b"]),
        ([("x-litellm-api-key", ""), ("x-api-key", "sk-a")], ["sk-a"]),
        ([("x-api-key", "sk-ant-api03-x")], []),
        ([("x_litellm_api_key", "sk-a")], []),
    ],
)
def test_credential_is_looked_up_in_litellms_order(
    headers: list[tuple[str, str]], candidates: list[str]
) -> None:
    # Given headers, when the credential is looked for, then the first one meant comes first.
    raw = [(name.encode(), value.encode()) for name, value in headers]
    assert find_candidates(raw) == candidates


@pytest.mark.parametrize("value", [b"sk-\x00", b"sk-\xff", b"x" * 1000, b"sk-a\tb"])
def test_credential_that_no_key_can_be_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        find_candidates([(b"x-api-key", value)])
    assert value.decode("latin-1") not in refused.value.message


def test_different_wrong_credentials_close_an_address_for_a_minute() -> None:
    # Given an address, when it tries different secrets, then it is closed until the window ends.
    limit = FailureLimit()
    for number in range(FAILURES_MAX):
        assert limit.wait_s("a", f"h{number}", 100.0) == 0
        limit.failed("a", f"h{number}", 100.0)
    assert limit.wait_s("a", "new", 101.0) == WINDOW_S - 1
    assert limit.wait_s("b", "new", 101.0) == 0
    assert limit.wait_s("a", "new", 100.0 + WINDOW_S) == 0


def test_one_repeated_wrong_credential_closes_only_itself() -> None:
    limit = FailureLimit()
    for _ in range(FAILURES_MAX):
        assert limit.wait_s("a", "old", 0.0) == 0
        limit.failed("a", "old", 0.0)
    assert limit.wait_s("a", "old", 1.0) > 0
    assert limit.wait_s("a", "right", 1.0) == 0


def test_memory_of_failures_is_bounded() -> None:
    # Given an attacker with many addresses, when each fails, then the oldest are forgotten.
    limit = FailureLimit()
    for number in range(3 * ADDRESSES_MAX):
        limit.failed(f"a{number}", "h", 0.0)
    assert len(limit._windows) == ADDRESSES_MAX


@pytest.mark.parametrize("name", sorted(KEY_FIELDS_WITHOUT_MEANING))
def test_field_without_meaning_is_refused_by_name_unless_it_is_empty(name: str) -> None:
    # Given each field of LiteLLM that does nothing here, when it asks for something, then it is
    # refused by its name; when it is empty, it is accepted.
    known = frozenset({"key_alias"})
    for value in (b"1", b'"x"', b'["x"]', b'{"a": 1}', b"true"):
        with pytest.raises(BadRequest, match=name) as refused:
            refuse_unknown_fields({name: msgspec.Raw(value)}, known, KEY_FIELDS_WITHOUT_MEANING)
        assert refused.value.param == name
    for value in (b"null", b"[ ]", b"{\n}", b'""', b"0", b"false"):
        refuse_unknown_fields({name: msgspec.Raw(value)}, known, KEY_FIELDS_WITHOUT_MEANING)


def test_no_field_both_works_and_is_refused() -> None:
    known = set(GenerateKey.__struct_fields__) | set(UpdateKey.__struct_fields__)
    assert known.isdisjoint(KEY_FIELDS_WITHOUT_MEANING)


@given(st.binary(max_size=200) | st.text(max_size=50).map(lambda text: f'{{"{text}":1}}'.encode()))
def test_any_bytes_are_a_body_or_a_bad_request(payload: bytes) -> None:
    # Given any bytes, when they are read as a body, then nothing but BadRequest is raised.
    with suppress(BadRequest):
        decode_body(payload, GenerateKey, KEY_FIELDS_WITHOUT_MEANING)


def test_update_changes_what_is_named_and_nothing_else() -> None:
    # Given a full record, when one field is updated, then all others are as before.
    before = KeyRecord(
        key_id="key_1", key_hash="h", key_name="sk-...abcd", key_alias="a", user_id="u",
        team_id="t", models=("m",), max_budget_usd=Decimal(1), soft_budget_usd=Decimal(2),
        budget_duration="1d", expires_at_us=5, blocked=True, metadata={"a": 1}, tags=("t",),
        created_at_us=1, created_by="x", updated_at_us=2, updated_by="y",
    )  # fmt: skip
    nothing = updated_record(before, UpdateKey(key="k"), ISSUE)
    assert nothing == msgspec.structs.replace(before, updated_at_us=NOW_US, updated_by="master_key")
    cleared = updated_record(
        before,
        UpdateKey(
            key="k", key_alias=None, models=None, max_budget=None, soft_budget=None,
            budget_duration=None, duration=None, user_id=None, team_id=None, metadata=None,
            tags=None, blocked=None,
        ),
        ISSUE,
    )  # fmt: skip
    assert cleared == KeyRecord(
        key_id="key_1", key_hash="h", key_name="sk-...abcd", created_at_us=1, created_by="x",
        updated_at_us=NOW_US, updated_by="master_key",
    )  # fmt: skip


def test_all_proxy_models_means_every_model_and_repeats_are_dropped() -> None:
    body = GenerateKey(models=("a", "b", "a"), tags=("x", "x"))
    record = created_record(body, "sk-x", "key_1", ISSUE)
    assert (record.models, record.tags) == (("a", "b"), ("x",))
    body = GenerateKey(models=("a", "all-proxy-models"))
    assert created_record(body, "sk-x", "key_1", ISSUE).models == ()


def test_chosen_key_has_one_id_for_ever_that_tells_nothing_of_it() -> None:
    key = "sk-my-own-key-0123456789"
    assert chosen_key_id(key) == chosen_key_id(key)
    assert len(chosen_key_id(key)) == len("key_") + 24
    assert not created_record(GenerateKey(key=key), key, "key_1", ISSUE).key_hash.startswith(
        chosen_key_id(key)[4:]
    )


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "active"),
        ({"expires_at_us": NOW_US + 1}, "active"),
        ({"expires_at_us": NOW_US}, "expired"),
        ({"blocked": True, "expires_at_us": 1}, "revoked"),
        ({"deleted": True, "blocked": True}, "deleted"),
    ],
)
def test_status_of_a_key(changes: dict[str, Any], status: str) -> None:
    record = KeyRecord(key_id="k", key_hash="h", key_name="n", **changes)
    assert status_of(record, NOW_US) == status


def test_window_is_that_of_the_configured_zone() -> None:
    # Given a monthly budget, when its window is asked for in two zones, then each has its own.
    record = KeyRecord(key_id="k", key_hash="h", key_name="n", budget_duration="1mo")
    utc = window_of(record, NOW_US, "UTC").start_us
    berlin = window_of(record, NOW_US, "Europe/Berlin").start_us
    assert utc - berlin == 3600 * 10**6
    state = key_state(record, KeySpend(), NOW_US, "UTC")
    assert state.budget_reset_at is not None
    assert state.budget_reset_at.isoformat() == "2026-12-01T00:00:00+00:00"
    unlimited = msgspec.structs.replace(record, budget_duration=None)
    assert window_of(unlimited, NOW_US, "UTC").start_us == 0


def snapshot_of(*records: KeyRecord) -> RegistrySnapshot:
    snapshot = RegistrySnapshot()
    for number, record in enumerate(records, start=1):
        snapshot.put(record, number)
    return snapshot


@given(
    st.lists(st.sampled_from(["a", "b", None]), max_size=12),
    st.integers(min_value=1, max_value=5),
    st.sampled_from(["asc", "desc"]),
    st.sampled_from(["key_alias", "created_at", "max_budget", "expires", "updated_at"]),
)
def test_pages_together_hold_every_key_once(
    aliases: list[str | None], size: int, order: Any, sort_by: Any
) -> None:
    # Given any keys, when all pages are read, then each live key came exactly once.
    records = [
        KeyRecord(key_id=f"k{n}", key_hash=f"h{n}", key_name="n", key_alias=alias)
        for n, alias in enumerate(aliases)
    ]
    snapshot, found, page, pages = snapshot_of(*records), [], 1, 1
    while page <= pages:
        query = KeyListQuery(page=page, size=size, sort_order=order, sort_by=sort_by)
        rows, total, pages = page_of_keys(snapshot, query, NOW_US, MASTER)
        assert total == len(records)
        assert len(rows) <= size
        found += [row.key_id for row in rows]
        page += 1
    assert sorted(found) == sorted(record.key_id for record in records)


def test_key_is_found_by_each_of_its_names_and_deleted_ones_only_where_asked() -> None:
    live = created_record(GenerateKey(), "sk-live", "key_live", ISSUE)
    dead = msgspec.structs.replace(
        created_record(GenerateKey(), "sk-dead", "key_dead", ISSUE), deleted=True
    )
    snapshot = snapshot_of(live, dead)
    for name in ("sk-live", live.key_hash, "key_live"):
        assert find_key(snapshot, name) == live
    for name in ("sk-dead", dead.key_hash, "key_dead"):
        assert find_key(snapshot, name) is None
        assert find_key(snapshot, name, with_deleted=True) == dead
    assert find_key(snapshot, "sk-none", with_deleted=True) is None


def test_oldest_holder_of_an_alias_comes_first() -> None:
    records = [
        KeyRecord(key_id=f"k{n}", key_hash=f"h{n}", key_name="n", key_alias="x", deleted=n == 0)
        for n in (3, 0, 1)
    ]
    assert [holder.key_id for holder in alias_holders(snapshot_of(*records), "x")] == ["k3", "k1"]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("uv"), st.sampled_from("mn"), amounts)
    )
)
def test_daily_sums_do_not_depend_on_order(cells: list[tuple[str, str, str, Decimal]]) -> None:
    # Given rows in any order, when they are summed by day, then the parts equal the whole.
    rows = [(day, user, model, f"{spend:f}", 2, 1) for day, user, model, spend in cells]
    days = days_from(rows)
    assert days == days_from(rows[::-1]) or {d.start_time: d.spend for d in days} == {
        d.start_time: d.spend for d in days_from(rows[::-1])
    }
    for day in days:
        assert sum(day.users.values()) == day.spend == sum(day.models.values())
        assert day.requests == 2 * day.unpriced_requests > 0
    assert sum(day.unpriced_requests for day in days) == len(cells)
