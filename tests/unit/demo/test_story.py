"""The made-up history: the same for a seed, as large as asked, and as a company's is."""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from schemas.events import RequestFacts, UsageRecord, decode_usage_event, encode_event
from schemas.streams import USAGE_BATCH_BYTES_MAX, USAGE_BATCH_EVENTS_MAX
from services.demo.history import entry_time
from services.demo.publishing import batches_of, usage_events
from services.demo.quota import last_standings, standing_headers
from services.demo.story import Story, make_company, make_story
from services.proxy.client_identity import identity_of
from services.proxy.quota import seat_of

NOW = datetime(2026, 11, 25, 18, 0, tzinfo=UTC)


def story(seed: int = 1, requests: int = 1500, now: datetime = NOW) -> Story:
    return make_story(make_company(seed, now), seed, requests, now)


@pytest.fixture(scope="module")
def made() -> Story:
    return story()


def test_what_is_told_of_an_account_is_what_the_proxy_tells() -> None:
    # Given a caller and what its client says of itself, when the proxy reads that, then it comes
    # to the hashes that the history has: a person is one seat, before and after.
    for caller in make_company(1, NOW).callers:
        told = json.dumps({"account_uuid": caller.account, "device_id": caller.device})
        metadata = msgspec.Raw(json.dumps({"user_id": told}).encode())
        identity = identity_of(metadata)
        assert seat_of(b"", metadata) == caller.seat
        assert identity.account_hash == caller.account_hash
        assert identity.device_hash == caller.device_hash


def test_same_seed_makes_the_same_history(made: Story) -> None:
    # Given a seed, when its history is made twice, then it is the same, and another seed's is not.
    assert story().history == made.history
    assert story(seed=2).history.totals != made.history.totals


@pytest.mark.parametrize("hour", [0, 7, 23])
@pytest.mark.parametrize("day", [1, 22, 28])
@pytest.mark.parametrize("requests", [100, 333])
def test_history_has_just_as_many_requests_as_asked(day: int, hour: int, requests: int) -> None:
    # Given any moment, also the first of a month or a Sunday, then the size is what was asked for,
    # all of it lies within three weeks, and nothing is later than now.
    now = datetime(2026, 11, day, hour, 5, tzinfo=UTC)
    history = story(requests=requests, now=now).history

    assert history.totals.requests == requests
    times = [entry_time(entry) for entry in history.entries]
    assert times == sorted(times)
    assert now - timedelta(days=21) < times[0]
    assert times[-1] < now


def test_every_request_begins_before_it_ends_and_ends_once(made: Story) -> None:
    # Given the entries in their order, then each end has its beginning before it, and no other end.
    open_ids: set[str] = set()
    for entry in made.history.entries:
        if isinstance(entry, UsageRecord):
            open_ids.remove(entry.request_id)
        elif type(entry) is RequestFacts:
            assert entry.request_id not in open_ids
            open_ids.add(entry.request_id)
    assert open_ids == set()


def test_conversations_are_read_from_the_cache_and_grow(made: Story) -> None:
    # Given Claude Code's requests, then most of a prompt is read from the cache, sub-agents and
    # titles have a small model, and there are weekends.
    records = list(made.history.records)
    usages = [record.usage for record in records if record.usage is not None]
    read = sum(usage.cache_read_tokens for usage in usages)
    whole = read + sum(
        usage.input_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        for usage in usages
    )
    assert 0.80 < read / whole < 0.97
    small = {r.model for r in records if r.client and r.client.purpose in {"agent", "title"}}
    assert small == {"claude-haiku-5-5"}
    on_weekends = sum(entry_time(record).weekday() >= 5 for record in records)
    assert on_weekends < len(records) / 6
    assert {record.billing for record in records} == {"api", "subscription"}


def test_messages_keep_to_the_limits_of_the_stream_and_can_be_read(made: Story) -> None:
    # Given the history as messages, then each is within the limits, and every event can be decoded
    # and is numbered without a gap.
    batches = list(batches_of(usage_events(made.history.entries, "p")))
    events = []
    for batch in batches:
        raws = msgspec.json.decode(batch, type=list[msgspec.Raw])
        assert len(raws) <= USAGE_BATCH_EVENTS_MAX
        assert len(batch) <= USAGE_BATCH_BYTES_MAX
        events += [decode_usage_event(raw) for raw in raws]
    assert [int(event.id) for event in events] == list(range(1, len(made.history.entries) + 1))


def test_changes_of_the_registry_hold_no_secret_and_come_in_order(made: Story) -> None:
    # Given the company's keys, then no event holds a secret of one, and none is later than now.
    company = make_company(1, NOW)
    changes = make_story(company, 1, 200, NOW).changes
    text = b"".join(encode_event(change.event) for change in changes).decode()
    assert company.secrets
    assert not any(secret in text for secret in company.secrets.values())
    times = [change.event.time for change in changes]
    assert times == sorted(times)
    assert times[-1] < NOW


def test_quotas_go_on_where_the_history_left_them(made: Story) -> None:
    # Given what was said last of each subscription, when more is asked, then a window goes on from
    # there until it ends, and begins anew then.
    company = make_company(1, NOW)
    standings = last_standings(company.callers, made.history.records)
    assert len(standings) == sum(caller.plan.seat for caller in company.callers)
    account, before = next(iter(standings.items()))
    ends_s = int(before["unified-5h-reset"])

    after = standing_headers(standings, account, ends_s - 1)
    assert float(after["unified-5h-utilization"]) > float(before["unified-5h-utilization"])
    assert after["unified-5h-reset"] == before["unified-5h-reset"]

    anew = standing_headers(standings, account, ends_s)
    assert float(anew["unified-5h-utilization"]) < 0.01
    assert int(anew["unified-5h-reset"]) == ends_s + 5 * 3600
