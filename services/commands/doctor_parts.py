"""`tallygate doctor`: the running processes, by what their metrics tell."""

import http.client
import json
import shlex
import socket
from pathlib import Path
from urllib.parse import urlsplit

from schemas.prices import TokenPrices
from services.commands.doctor_check import Check, Place, failed, fine, warned
from services.proxy.journal import unread_bytes

__all__ = ["check_parts", "check_proxy", "check_quack"]

ANSWER_TIMEOUT_S = 3.0
OUTBOX_SHARE_WANTED = 0.1
OUTBOX_SHARE_MAX = 0.9
"""An outbox that is fuller than these shares of its limit is worth a warning, or is a fault."""
LAG_S_WANTED = 30.0
_TOKENS = ", ".join(f"{name}: ?" for name in TokenPrices.__struct_fields__)
_LOG = "the log of `tallygate serve` says why (level error)"


def check_parts(place: Place) -> list[Check]:
    """Look at each process, its outbox or its books, and at what the books complain of."""
    told = place.parts_told
    if not place.parts_up:
        return [
            failed(
                "services",
                f"nothing of the gateway of {place.data} runs",
                "start it with tallygate serve; or name its data folder with --data DIR, and run "
                "this as its user. Services in containers: run this in each of them",
            ),
            *_outboxes_alone(place),
        ]
    missing = sorted((told | place.parts_wanted) - place.parts_up)
    checks = []
    if missing:
        checks.append(
            failed("services", f"{', '.join(missing)} do not answer", f"start them again; {_LOG}")
        )
    else:
        checks.append(fine("services", f"{', '.join(sorted(place.parts_up))} answer"))
    return [*checks, *_outboxes(place), *_outboxes_alone(place), *_books(place)]


def _outboxes(place: Place) -> list[Check]:
    checks = []
    for part in sorted(part for part in place.parts_up if part.startswith("proxy-")):
        name = f"outbox of {part}"
        waiting = place.value("tallygate_outbox_bytes", part) or 0
        limit = place.value("tallygate_outbox_limit_bytes", part) or 1
        unwritten = place.value("tallygate_outbox_unwritten_events", part) or 0
        lost = place.value("tallygate_outbox_events_lost_total", part) or 0
        detail = f"{waiting / 1024**2:,.1f} of {limit / 1024**2:,.0f} MiB wait to be published"
        away = place.value("tallygate_nats_disconnected_seconds", part) or 0
        if away:
            detail += f"; NATS has been away for {away:,.0f} s"
        if lost or unwritten:
            checks.append(
                failed(
                    name,
                    f"{detail}; {unwritten:,.0f} records wait in memory and {lost:,.0f} events "
                    "are lost, since the disk takes no more",
                    "make room on the disk of the data folder",
                )
            )
        elif waiting > OUTBOX_SHARE_MAX * limit:
            checks.append(failed(name, detail, "requests are refused soon: bring NATS back"))
        elif waiting > OUTBOX_SHARE_WANTED * limit or away:
            remedy = "bring NATS back: nothing is lost, and what waits is published then"
            checks.append(warned(name, detail, remedy))
        else:
            checks.append(fine(name, detail))
    return checks


def _outboxes_alone(place: Place) -> list[Check]:
    """Look for events of workers that do not run: nobody publishes them."""
    checks = []
    for folder in sorted((place.data / "proxy").glob("*")):
        part = f"proxy-{folder.name}"
        if part in place.parts_up or not folder.is_dir():
            continue
        try:
            waiting = unread_bytes(folder)
        except OSError as error:
            checks.append(
                warned(f"outbox of {part}", f"{folder}: {error.strerror}", "see permissions")
            )
            continue
        if waiting:
            checks.append(
                warned(
                    f"outbox of {part}",
                    f"{waiting:,} bytes of events wait in {folder}, and that worker does not run",
                    "start the gateway with as many workers as before (--workers): each publishes "
                    "what it left behind",
                )
            )
    return checks


def _books(place: Place) -> list[Check]:
    checks = []
    for part in ("ledger-writer", "ledger-reader"):
        lag = place.value("tallygate_ledger_lag_messages", part)
        if part not in place.parts_up:
            continue
        if lag is None:
            checks.append(
                warned(f"lag of {part}", "not known: NATS does not answer", "see the check of NATS")
            )
            continue
        seconds = place.value("tallygate_ledger_lag_seconds", part) or 0
        failures = place.value("tallygate_ledger_commit_failures_total", part) or 0
        detail = f"{lag:,.0f} messages of the stream are not in its books yet"
        if failures:
            detail += f"; {failures:,.0f} commits failed and were tried again"
        if seconds > LAG_S_WANTED or failures:
            checks.append(warned(f"lag of {part}", detail, f"is the disk full, or slow? {_LOG}"))
        else:
            checks.append(fine(f"lag of {part}", detail))
    return [*checks, *_complaints(place)]


def _complaints(place: Place) -> list[Check]:
    reader = "ledger-reader"
    if reader not in place.parts_told | place.parts_wanted:
        return []
    dead = place.value("tallygate_ledger_dead_letters", reader)
    missing = place.value("tallygate_ledger_missing_events", reader)
    lost = place.value("tallygate_ledger_lost_requests", reader)
    if dead is None or missing is None:
        return [
            warned(
                "books",
                "gaps, dead letters and unpriced requests are not known: the reader does not tell",
                "start the reader; tallygate verify also reads books that nobody serves",
            )
        ]
    checks = [
        failed(
            "gaps",
            f"{missing:,.0f} events of proxies never arrived",
            "tallygate verify names them; was an outbox's folder deleted, or a disk lost?",
        )
        if missing
        else fine("gaps", "every event of every proxy has arrived"),
        warned(
            "dead letters",
            f"{dead:,.0f} events could not be read",
            "tallygate ledger retry-dead-letters says why, and which this version can read",
        )
        if dead
        else fine("dead letters", "every event could be read"),
    ]
    if lost:
        checks.append(
            warned(
                "lost requests",
                f"the end of {lost:,.0f} requests never came",
                "they are the rows with error_type 'lost': was a proxy's data folder deleted? "
                "What they used is not known",
            )
        )
    else:
        checks.append(fine("lost requests", "the end of every request came, or may still come"))
    return [*checks, *_unpriced(place)]


def _unpriced(place: Place) -> list[Check]:
    models = {
        each.labels["model"]: int(each.value)
        for each in place.named("tallygate_ledger_unpriced_requests")
        if each.value and each.labels["part"] == "ledger-reader"
    }
    if not models:
        return [fine("prices", "every request has its price")]
    told = ", ".join(f"{model} ({count:,})" for model, count in models.items())
    lines = ["prices:"]
    for model in models:
        lines += [
            f"  - model: {json.dumps(model)}",
            f"    usd_per_mtok: {{{_TOKENS}}}",
            "    batch_multiplier: 0.5",
            "    usd_per_1000_web_searches: 10",
        ]
    names = ", ".join("'" + model.replace("'", "''") + "'" for model in models)
    columns = "request_id, started_at, model, unpriced_reason"
    wanted = f"unpriced AND model IN ({names})"
    query = f"SELECT {columns} FROM requests WHERE {wanted}"  # noqa: S608 - text to be pasted
    lines.append(f"# the rows: tallygate sql {shlex.quote(query)}")
    return [
        warned(
            "prices",
            f"models without a price, and how many requests of each: {told}. They are in no sum "
            "and count for no budget",
            "put these lines into the configuration, with the figures of your provider in place "
            "of each ?, then tallygate reload; tallygate reprice --from DAY prices the requests "
            "that are there. If the name is wrong, correct it in model_list",
            tuple(lines),
        )
    ]


def check_proxy(place: Place) -> list[Check]:
    """Ask the gateway for its readiness, as a load balancer does.

    Not where another service runs by itself: it cannot be expected to reach the proxy.
    """
    told = place.parts_told
    if told and not place.parts_wanted and not any(part.startswith("proxy-") for part in told):
        return []
    return [_proxy(place)]


def _proxy(place: Place) -> Check:
    name = "proxy"
    try:
        split = urlsplit(place.url)
        kind = (
            http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(split.hostname or "", split.port, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.request("GET", f"{split.path.rstrip('/')}/health/readiness")
            answer = connection.getresponse()
            body = answer.read(4096).decode("utf-8", "replace")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return failed(
            name,
            f"{place.url} does not answer ({error})",
            "name the gateway's address with --url URL; is it started, and does nothing stand in "
            "between (a firewall, another port)?",
        )
    if answer.status == 200:  # noqa: PLR2004
        return fine(name, f"{place.url} answers and is ready")
    return failed(
        name,
        f"{place.url} answers {answer.status}: {body[:200]}",
        "a proxy that waits for keys needs NATS once: see the check of NATS",
    )


def check_quack(place: Place) -> list[Check]:
    """Look whether DuckDB clients can attach the books, where the configuration wants it."""
    name = "quack"
    is_here = place.parts_wanted or "ledger-quack" in place.parts_told
    if place.config is None or not place.parts_up or not is_here:
        return []
    settings = place.config.settings
    if settings.quack_port == 0:
        return [fine(name, "turned off (quack_port: 0)")]
    address = (settings.quack_host, settings.quack_port)
    try:
        socket.create_connection(address, timeout=ANSWER_TIMEOUT_S).close()
    except OSError as error:
        return [
            warned(
                name,
                f"{address[0]}:{address[1]} does not answer ({error})",
                "the log of ledger-quack says why: the extension for this DuckDB may be missing; "
                "everything else works. quack_port: 0 turns it off",
            )
        ]
    token = place.data / "secrets" / "quack_token"
    if "ledger-quack" not in place.parts_up:
        return [
            warned(
                name,
                f"{address[0]}:{address[1]} answers, but not from this gateway",
                "give quack_port another number: that port is another program's",
            )
        ]
    return [fine(name, f"DuckDB clients attach quack:{address[0]}:{address[1]} ({_where(token)})")]


def _where(token: Path) -> str:
    return f"token: {token}" if token.is_file() else "its token is not made yet"
