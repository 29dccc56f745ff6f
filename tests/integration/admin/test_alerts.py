"""Alerts of a real admin service to real receivers: signed, repeated, given up, never lost."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from schemas.budgets import BudgetState
from schemas.webhooks import signature
from services.client.cli import main
from tests.support.admin import MASTER_KEY, RunningAdmin, running_admin
from tests.support.nats import NatsServer
from tests.support.proxy import publish_budget
from tests.support.query_reader import request_row, running_query_reader
from tests.support.receivers import HttpReceiver, MailReceiver, http_receiver, mail_receiver

UNKNOWN = "claude-unknown-9"
KINDS = ["hook", "blue", "gone", "chat", "mail"]
SECRET = "a-secret-of-the-tests"


@pytest.fixture(scope="module")
def http() -> Iterator[HttpReceiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def mail() -> Iterator[MailReceiver]:
    with mail_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def alerts(http: HttpReceiver, mail: MailReceiver) -> str:
    """The section of the file: all kinds of destinations."""
    hook = f"{{url: '{http.url}/hook', secret: {SECRET}}}"
    email = "{host: 127.0.0.1, from: tg@corp.example, to: [ops@corp.example], security: none"
    return f"""
alerts:
  - {{name: hook, events: [key.*, model.unpriced, alert.undelivered], webhook: {hook}}}
  - {{name: blue, events: ['*'], teams: [blue], webhook: {{url: '{http.url}/blue'}}}}
  - {{name: gone, events: [key.blocked], slack: {{url: '{http.url}/gone'}}}}
  - {{name: chat, events: [budget.*], slack: {{url: '{http.url}/chat'}}}}
  - {{name: mail, events: [budget.*], email: {email}, port: {mail.port}}}}}
"""


def kinds(receiver: HttpReceiver, path: str) -> list[tuple[str, str]]:
    """Return the types of what came to a path, each with the key's alias."""
    return [(e.json["type"], e.json["data"].get("key_alias", "")) for e in receiver.at(path)]


def wait_for(receiver: HttpReceiver, path: str, kind: str, alias: str) -> dict[str, Any]:
    """Return the event of a type and key that was taken at a path, once it was."""

    def wanted(each: Any) -> bool:
        event = each.json
        return bool(
            each.status == 200
            and event["type"] == kind
            and event["data"].get("key_alias", "") == alias
        )

    found = receiver.wait(path, lambda all_of_it: any(map(wanted, all_of_it)))
    event: dict[str, Any] = next(each.json for each in found if wanted(each))
    return event


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alerts")


@pytest.fixture(scope="module")
def admin(
    nats: NatsServer, folder: Path, http: HttpReceiver, alerts: str
) -> Iterator[RunningAdmin]:
    """A service whose destinations have found their places: what comes now is told.

    The books that it can ask hold two requests of a model without a price.
    """
    started_at = datetime.now(UTC).replace(tzinfo=None)
    free = {"model": UNKNOWN, "started_at": started_at, "unpriced": True, "cost_usd": None}
    rows = [request_row(request_id=f"tg_{number}", **free) for number in range(2)]
    with (
        running_query_reader(folder / "reader", nats.url, rows),
        running_admin(folder / "one", nats.url, config=alerts) as running,
    ):
        number = 0
        while not (http.at("/hook") and http.at("/blue")):
            running.generate(key_alias=f"probe-{number}", team_id="blue")
            number += 1
            time.sleep(0.05)
        yield running


def test_a_model_without_a_price_is_told(admin: RunningAdmin, http: HttpReceiver) -> None:
    # given books with requests of a model without a price, when the service begins to tell, then
    # the model is told
    event = wait_for(http, "/hook", "model.unpriced.v1", "")
    assert event["data"] == {"model": UNKNOWN, "requests": 2}
    assert (event["source"], event["subject"]) == ("/admin", UNKNOWN)


def test_keys_are_told_in_order_signed_and_to_whom_it_concerns(
    admin: RunningAdmin, http: HttpReceiver
) -> None:
    # given a destination that refuses for good
    http.script("/gone", *[410] * 9)
    # when keys are made in two teams, and one is blocked
    for team in ("blue", "red"):
        admin.generate(key_alias=f"of-{team}", team_id=team)
    key = admin.generate(key_alias="other")
    assert admin.http.post("/key/block", json={"key": key["key_id"]}).status_code == 200
    # then the webhook has each in order, signed, without the key's hash
    event = wait_for(http, "/hook", "key.blocked.v1", "other")
    assert event["data"]["key_id"] == key["key_id"]
    for each in http.at("/hook"):
        message_id, sent_at = each.headers["webhook-id"], int(each.headers["webhook-timestamp"])
        assert message_id == each.json["id"]
        signed = signature(SECRET, message_id, sent_at, each.body)
        assert each.headers["webhook-signature"] == signed
        assert each.headers["content-type"].startswith("application/cloudevents+json")
        assert str(key["token"]) not in each.body.decode()
    told = [kind for kind in kinds(http, "/hook") if kind[1] in {"of-blue", "of-red", "other"}]
    assert told == [
        ("key.created.v1", "of-blue"),
        ("key.created.v1", "of-red"),
        ("key.created.v1", "other"),
        ("key.blocked.v1", "other"),
    ]
    # and what the other refused is told here, once, and can be read
    undelivered = wait_for(http, "/hook", "alert.undelivered.v1", "")["data"]
    assert undelivered["destination"] == "gone"
    assert undelivered["reason"] == "answered with status 410"
    assert undelivered["alert"]["type"] == "key.blocked.v1"
    assert len(http.at("/gone")) == 1
    shown = admin.http.get("/alerts").json()
    assert [each["name"] for each in shown["destinations"]] == KINDS
    (dead,) = shown["undelivered"]
    assert (dead["destination"], dead["title"]) == ("gone", "Key other was blocked")
    assert http.url not in str(shown)
    # and a test goes to those who take all or name it, whatever their teams
    tested = admin.http.post("/alerts/test").json()
    assert tested["destinations"] == ["blue"]
    event = wait_for(http, "/blue", "alert.tested.v1", "")
    assert (event["id"], event["data"]) == (tested["event_id"], {"asked_by": "master_key"})
    # and a destination of one team has what is about that team
    wait_for(http, "/blue", "key.created.v1", "of-blue")
    assert ("key.created.v1", "of-red") not in kinds(http, "/blue")


def test_the_command_shows_who_is_told_and_what_was_given_up(
    admin: RunningAdmin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given the destinations and the refusal of before, when the command lists them, then each has
    # its line; and a test names those that it goes to
    monkeypatch.setenv("TALLYGATE_MASTER_KEY", MASTER_KEY)
    assert main(["alerts", "list", "--url", admin.url]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in KINDS)
    assert "answered with status 410" in shown
    assert main(["alerts", "test", "--url", admin.url]) == 0
    assert capsys.readouterr().out.startswith("sent to blue: event ")


def test_a_budget_is_told_in_chat_after_a_second_attempt_and_by_mail(
    admin: RunningAdmin, nats: NatsServer, http: HttpReceiver, mail: MailReceiver
) -> None:
    # given a chat that fails once, when the budget of a team is used up
    http.script("/chat", 503)
    state = BudgetState(
        scope="team",
        scope_id="blue",
        name="blue",
        spend_usd=Decimal("10.02"),
        max_budget_usd=Decimal(10),
    )
    publish_budget(nats.url, state)
    # then the same message comes twice, and one mail
    (first, second) = http.wait("/chat", lambda all_of_it: len(all_of_it) == 2)
    assert (first.status, second.status) == (503, 200)
    assert first.body == second.body
    assert second.json == {"text": "*Budget of team blue is used up*\nSpent $10.02 of $10.00"}
    (letter,) = mail.wait(1)
    assert letter["subject"] == "[tallygate] Budget of team blue is used up"
    assert (letter["from"], letter["to"]) == ("tg@corp.example", "ops@corp.example")
    assert "Spent $10.02 of $10.00" in str(letter)
    # and the team's own destination has the event
    wait_for(http, "/blue", "budget.exceeded.v1", "")
    # and the log holds neither a secret nor where alerts go
    assert SECRET not in admin.log
    assert http.url not in admin.log


def test_a_reload_changes_who_is_told(admin: RunningAdmin, http: HttpReceiver) -> None:
    # given a file with one more destination, when it is taken, and a key is made when that one
    # has found its place
    content = admin.config_path.read_text()
    entry = f"  - {{name: late, events: ['*'], webhook: {{url: '{http.url}/late'}}}}\n"
    admin.config_path.write_text(content + entry)
    assert "alerts" in admin.http.post("/config/reload", json={}).json()["changed"]
    while not http.at("/late"):
        admin.http.post("/alerts/test")
        time.sleep(0.05)
    admin.generate(key_alias="after")
    # then it has that, and nothing of before, and the others go on where they were
    wait_for(http, "/late", "key.created.v1", "after")
    created = [kind for kind in kinds(http, "/late") if kind[0] == "key.created.v1"]
    assert created == [("key.created.v1", "after")]
    wait_for(http, "/hook", "key.created.v1", "after")
    assert kinds(http, "/hook").count(("key.created.v1", "of-red")) == 1
    # and when it is taken away it hears nothing more
    admin.config_path.write_text(content)
    assert admin.http.post("/config/reload", json={}).json()["taken_by_all"]
    admin.generate(key_alias="without-it")
    wait_for(http, "/hook", "key.created.v1", "without-it")
    assert ("key.created.v1", "without-it") not in kinds(http, "/late")


def test_alerts_are_told_by_one_service_and_survive_its_death(
    admin: RunningAdmin, nats: NatsServer, folder: Path, http: HttpReceiver, alerts: str
) -> None:
    # given a second service with the same destinations, when keys are made there, then each is
    # told once
    with running_admin(folder / "two", nats.url, config=alerts) as other:
        for alias in ("by-the-other", "and-another"):
            other.generate(key_alias=alias)
        wait_for(http, "/hook", "key.created.v1", "and-another")
        assert kinds(http, "/hook").count(("key.created.v1", "by-the-other")) == 1
        tried = len(http.at("/hook"))
        # given a receiver that is down, when the service that tells is killed while it tries, and
        # a key is made while none tells
        http.script("/hook", *[503] * 99)
        other.generate(key_alias="in-the-night")
        http.wait("/hook", lambda all_of_it: len(all_of_it) > tried)
        os.kill(admin.process.pid, signal.SIGKILL)
        admin.process.wait()
        http.script("/hook")
        other.generate(key_alias="unseen")
        before = len(http.at("/hook"))
        # then both are told when it is back, and nothing that was told before is told again
        with running_admin(folder / "one", nats.url, config=alerts):
            wait_for(http, "/hook", "key.created.v1", "unseen")
    later = [each.json["data"].get("key_alias") for each in http.at("/hook")[before:]]
    assert later == ["in-the-night", "unseen"]
    assert [kind for kind, _ in kinds(http, "/hook")].count("model.unpriced.v1") == 1
