"""The checks of `tallygate doctor` that need no gateway: what they find, and what they advise."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.commands import doctor_client, doctor_nats
from services.commands.doctor_check import Check, Place
from services.commands.doctor_folder import (
    DISK_FREE_BYTES_MIN,
    DISK_FREE_BYTES_WANTED,
    check_archive,
    check_configuration,
    check_disk,
    check_permissions,
    check_versions,
)
from services.commands.doctor_parts import check_parts, check_proxy
from services.commands.doctor_quotas import check_alerts, check_quotas
from services.ledger.archive import Archive
from services.proxy.journal import Journal, Position, unread_bytes
from services.runtime.bus import StreamMessage
from services.runtime.metrics import Sample, parsed, rendered, sample


def place(data: Path, texts: str = "") -> Place:
    return Place(data=data, url="http://127.0.0.1:1", environment={}, series=tuple(parsed(texts)))


def told(part: str, *samples: Sample) -> str:
    return rendered(part, [sample("tallygate_up", 1), *samples])


def healthy() -> dict[str, list[Sample]]:
    """The metrics of a gateway in good order, by part."""
    books = [sample("tallygate_ledger_lag_messages", 0), sample("tallygate_ledger_lag_seconds", 0)]
    return {
        "ledger-writer": books,
        "ledger-reader": [
            *books,
            sample("tallygate_ledger_dead_letters", 0),
            sample("tallygate_ledger_missing_events", 0),
            sample("tallygate_ledger_lost_requests", 0),
        ],
        "admin": [],
        "proxy-0": [
            sample("tallygate_outbox_bytes", 0),
            sample("tallygate_outbox_limit_bytes", 1000),
        ],
    }


def checks_of(data: Path, parts: dict[str, list[Sample]]) -> dict[str, Check]:
    texts = "".join(told(part, *samples) for part, samples in parts.items())
    return {each.name: each for each in check_parts(place(data, texts))}


@given(st.integers(-(2**53), 2**53) | st.floats(-1e12, 1e12))
def test_what_is_rendered_is_read_again(value: float) -> None:
    # Given any number, when it is rendered and read, then it is the same.
    series = parsed(rendered("p", [sample("tallygate_up", value)]))
    assert [(each.name, each.labels, each.value) for each in series] == [
        ("tallygate_up", {"part": "p"}, float(value))
    ]


@given(st.text())
def test_labels_that_clients_chose_are_read_again(name: str) -> None:
    # Given any name of a model on one line, when it is a label, then it is read as it was.
    name = " ".join(name.split())
    series = parsed(rendered("p", [sample("tallygate_ledger_unpriced_requests", 2, name)]))
    assert [each.labels["model"] for each in series] == [name]


def test_a_gateway_in_good_order_has_no_remedies(tmp_path: Path) -> None:
    # Given metrics of good order, then every check is well and none advises anything.
    found = checks_of(tmp_path, healthy())
    assert {each.status for each in found.values()} == {"ok"}
    assert {each.remedy for each in found.values()} == {""}


@pytest.mark.parametrize(
    ("part", "metric", "value", "name", "status", "words"),
    [
        ("ledger-reader", "dead_letters", 3, "dead letters", "warn", "retry-dead-letters"),
        ("ledger-reader", "missing_events", 1, "gaps", "fail", "tallygate verify"),
        ("ledger-reader", "lost_requests", 2, "lost requests", "warn", "error_type 'lost'"),
        ("ledger-writer", "lag_seconds", 31, "lag of ledger-writer", "warn", "disk"),
        ("ledger-writer", "commit_failures_total", 1, "lag of ledger-writer", "warn", "disk"),
    ],
)
def test_what_the_books_complain_of_is_told(
    tmp_path: Path, part: str, metric: str, value: int, name: str, status: str, words: str
) -> None:
    # Given one figure that is not as it should be, then its check says so and what to do, and all
    # others are well.
    parts = healthy()
    full = f"tallygate_ledger_{metric}"
    kept = [each for each in parts[part] if each.metric.name != full]
    parts[part] = [*kept, sample(full, value)]
    found = checks_of(tmp_path, parts)
    assert found[name].status == status
    assert words in found[name].remedy
    assert {each.name for each in found.values() if each.status != "ok"} == {name}


@pytest.mark.parametrize(
    ("waiting", "away_s", "lost", "status"),
    [
        (50, 0, 0, "ok"),
        (150, 0, 0, "warn"),
        (950, 0, 0, "fail"),
        (0, 5, 0, "warn"),
        (0, 0, 1, "fail"),
    ],
)
def test_an_outbox_that_fills_is_told(
    tmp_path: Path, waiting: int, away_s: int, lost: int, status: str
) -> None:
    # Given an outbox filled to some share, NATS away, or events lost, then the check says how bad
    # that is.
    parts = healthy()
    parts["proxy-0"] = [
        sample("tallygate_outbox_bytes", waiting),
        sample("tallygate_outbox_limit_bytes", 1000),
        sample("tallygate_nats_disconnected_seconds", away_s),
        sample("tallygate_outbox_events_lost_total", lost),
    ]
    assert checks_of(tmp_path, parts)["outbox of proxy-0"].status == status


def test_what_a_worker_left_behind_is_told(tmp_path: Path) -> None:
    # Given the journal of a worker that no longer runs, of which a part was read, then the rest
    # is counted as the journal itself counts it, and the advice is to start as many workers.
    folder = tmp_path / "proxy" / "1"
    folder.mkdir(parents=True)
    journal = Journal(folder)
    for number in range(3):
        journal.append(b"E", b"x" * (100 + number))
    _, end = journal.read(journal.read_position, 1000)
    journal.acknowledge(Position(end.segment, end.offset - 150))
    waiting = journal.bytes_unread
    journal.close()
    assert waiting == unread_bytes(folder) == 150
    found = checks_of(tmp_path, healthy())["outbox of proxy-1"]
    assert found.status == "warn"
    assert f"{waiting:,} bytes" in found.detail
    assert "--workers" in found.remedy


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    # Given a gateway of which the reader is gone and a worker was killed, then both are named, and
    # that the books' complaints are not known is said.
    parts = healthy()
    del parts["ledger-reader"]
    texts = "".join(told(part, *samples) for part, samples in parts.items())
    texts += rendered("proxy-1", [sample("tallygate_up", 0)])
    found = {each.name: each for each in check_parts(place(tmp_path, texts))}
    assert found["services"].status == "fail"
    assert "ledger-reader, proxy-1" in found["services"].detail
    assert found["books"].status == "warn"


def test_one_service_in_a_folder_of_its_own_is_no_broken_gateway(tmp_path: Path) -> None:
    # Given a container that holds a worker alone, then nothing else is missed there.
    found = checks_of(tmp_path, {"proxy-0": healthy()["proxy-0"]})
    assert {each.status for each in found.values()} == {"ok"}
    assert found.keys() == {"services", "outbox of proxy-0"}


def test_the_proxy_is_not_asked_where_another_service_is_alone(tmp_path: Path) -> None:
    # Given a container with the writer alone, then the proxy, which it cannot reach, is not
    # missed; given a worker, or nothing at all, it is.
    assert check_proxy(place(tmp_path, told("ledger-writer"))) == []
    for text in (told("proxy-0"), ""):
        assert [each.status for each in check_proxy(place(tmp_path, text))] == ["fail"]


def test_versions_that_differ_are_told(tmp_path: Path) -> None:
    # Given a process of another version than the installed one, then it is named.
    texts = told("admin", sample("tallygate_build_info", 1, "0.0.1"))
    found = check_versions(place(tmp_path, texts))
    assert (found.status, "admin runs 0.0.1" in found.detail) == ("warn", True)


def test_disk_space_is_judged(tmp_path: Path) -> None:
    # Given amounts of free space around the limits, then each is judged by them.
    here = place(tmp_path)
    for free, status in (
        (DISK_FREE_BYTES_WANTED, "ok"),
        (DISK_FREE_BYTES_WANTED - 1, "warn"),
        (DISK_FREE_BYTES_MIN - 1, "fail"),
    ):
        assert check_disk(here, free_bytes=free).status == status


def test_rights_of_others_are_found_and_the_lines_take_them_away(tmp_path: Path) -> None:
    # Given a secret that others may read, then it is named, and the line that is printed names
    # the mode that it must have; given none, all is well.
    tmp_path.chmod(0o700)
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    token = secrets / "quack_token"
    token.write_text("t")
    token.chmod(0o640)
    found = check_permissions(place(tmp_path))
    assert found.status == "fail"
    assert found.lines == (f"chmod 600 {token}",)
    token.chmod(0o600)
    assert check_permissions(place(tmp_path)).status == "ok"


def test_a_configuration_that_is_wrong_is_told_as_at_a_start(tmp_path: Path) -> None:
    # Given a file with an unknown key, then the check names it as the start would; given a sound
    # file that is not the content in force, then it says how to put it in force.
    path = tmp_path / "config.yaml"
    path.write_text("model_lst: []\n")
    config, found = check_configuration(place(tmp_path), path)
    assert config is None
    assert found.status == "fail"
    assert "model_list" in found.detail
    path.write_text(
        "model_list:\n  - model_name: m\n    litellm_params: {model: anthropic/claude-opus-4-5}\n"
    )
    assert check_configuration(place(tmp_path), path)[1].status == "ok"
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "config.yaml").write_text("another one")
    config, found = check_configuration(place(tmp_path), path)
    assert config is not None
    assert (found.status, "tallygate reload" in found.remedy) == ("warn", True)


def message(sequence: int) -> StreamMessage:
    return StreamMessage(sequence, "usage.0", b"[]", sequence)


def test_a_hole_between_archive_and_stream_is_found(tmp_path: Path) -> None:
    # Given an archive of messages 1 to 4 and 7, then a stream that begins at 8 leaves 5 and 6
    # missing, and one that begins at 10 also 8 and 9; without a hole all is well.
    archive = Archive(tmp_path / "archive", "2026-01-01T00:00:00Z")
    here = place(tmp_path)
    assert check_archive(here, archive.created, 1).status == "ok"
    assert check_archive(here, archive.created, 2).status == "fail"
    archive.write([message(number) for number in range(1, 5)])
    assert check_archive(here, archive.created, 5).status == "ok"
    assert check_archive(here, None, None).status == "warn"
    archive.write([message(7)])
    found = check_archive(here, archive.created, 10)
    assert found.status == "fail"
    assert "5 to 6, 8 to 9" in found.detail


@pytest.mark.parametrize(("skew_s", "status"), [(0.5, "ok"), (-3.0, "warn"), (90.0, "fail")])
def test_clocks_that_differ_are_told(skew_s: float, status: str) -> None:
    # Given how far the clocks are apart, then that is judged, whichever is ahead.
    asked = [doctor_nats._Asked("admin", skew_s=skew_s)]
    (found,) = doctor_nats._clock(asked)
    assert found.status == status
    assert ("behind" in found.detail) == (skew_s < 0)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"ANTHROPIC_CUSTOM_HEADERS": "a: b\nX-LiteLLM-Api-Key: Bearer k"}, "x-litellm-api-key"),
        ({"ANTHROPIC_AUTH_TOKEN": "k", "ANTHROPIC_API_KEY": "other"}, "authorization"),
        ({"ANTHROPIC_API_KEY": "k"}, "x-api-key"),
        ({}, None),
    ],
)
def test_the_key_that_claude_code_would_send_is_found(
    environment: dict[str, str], wanted: str | None
) -> None:
    # Given the variables that Claude Code reads, then the key is the one that it would send.
    found = doctor_client._key_of(environment)
    assert (found[0] if found else None) == wanted
    assert found is None or found[1].endswith("k")


def test_subscriptions_near_their_limits_are_told_with_the_end_of_the_window(
    tmp_path: Path,
) -> None:
    # Given three seats, of which one is at 92 % of a window and one is refused, then a warning
    # tells these two; given the first one alone, all is well; where nothing is told, nothing is.
    well = [
        sample("tallygate_quota_seats", 3),
        sample("tallygate_quota_status", 1, "aa", "allowed"),
        sample("tallygate_quota_utilization_ratio", 0.79, "aa", "seven_day"),
    ]
    near = [
        sample("tallygate_quota_utilization_ratio", 0.92, "bb", "five_hour"),
        sample("tallygate_quota_reset_time_seconds", 1_800_000_000, "bb", "five_hour"),
        sample("tallygate_quota_status", 1, "cc", "rejected"),
    ]
    (fine,) = check_quotas(place(tmp_path, told("ledger-reader", *well)))
    assert (fine.status, "none of 3" in fine.detail) == ("ok", True)
    (found,) = check_quotas(place(tmp_path, told("ledger-reader", *well, *near)))
    assert (found.status, found.detail.split()[:3]) == ("warn", ["2", "of", "3"])
    assert found.lines == (
        "seat bb: 92 % of its 5 hours until Jan 15 08:00 UTC",
        "seat cc: refused",
    )
    assert "on_quota_exhausted" in found.remedy
    assert check_quotas(place(tmp_path, told("ledger-reader"))) == []
    # Given a key that pays and a model without an api_key, then that comes first.
    unpaid = told("proxy-0", sample("tallygate_quota_unpaid_requests_total", 2))
    (found,) = check_quotas(place(tmp_path, told("ledger-reader", *well) + unpaid))
    assert (found.status, found.detail.split()[0]) == ("warn", "2")
    assert "litellm_params.api_key" in found.remedy


def test_alerts_that_were_given_up_are_told(tmp_path: Path) -> None:
    # Given an admin service that gave two alerts up, then a warning says where they are; given
    # none, all is well; where no admin service tells, nothing is said.
    def told_of(count: int) -> Check:
        samples = [
            sample("tallygate_alerts_undelivered_total", count),
            sample("tallygate_alert_failed_attempts_total", 5),
        ]
        (check,) = check_alerts(place(tmp_path, told("admin", *samples)))
        return check

    assert (told_of(2).status, told_of(0).status) == ("warn", "ok")
    assert "2 alerts" in told_of(2).detail
    assert "tallygate alerts list" in told_of(2).remedy
    assert check_alerts(place(tmp_path, told("proxy-0"))) == []
