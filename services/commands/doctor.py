"""`tallygate doctor`: looks at a whole installation from outside, and says what to do.

Each check works for itself and within a time of its own, so that what is down hides nothing else.
Nothing is changed, and no process is started.
"""

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable

import msgspec

from services.commands.addresses import checked_nats_url
from services.commands.doctor_check import Check, Place, failed
from services.commands.doctor_client import check_client
from services.commands.doctor_folder import (
    check_archive,
    check_configuration,
    check_disk,
    check_permissions,
    check_versions,
)
from services.commands.doctor_nats import NatsFindings, check_nats
from services.commands.doctor_parts import check_parts, check_proxy, check_quack
from services.commands.doctor_quotas import check_alerts, check_quotas
from services.runtime.metrics import parsed
from services.runtime.metrics_server import gather

__all__ = ["examine", "report", "run_doctor"]

EXIT_CODES = {"ok": 0, "warn": 1, "fail": 2}
NATS_TIMEOUT_S = 20.0
"""All questions to NATS together; each of them, and each other check, has a shorter limit."""
_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def run_doctor(values: argparse.Namespace) -> int:
    """Print the report; return 0: all is well, 1: a warning, 2: a fault.

    Raises ConfigError for an address that is none.
    """
    place = Place(
        data=values.data.absolute(),
        url=values.url,
        environment=os.environ,
        nats_url=checked_nats_url(values.nats_url) if values.nats_url else None,
    )
    if values.client:
        checks = _guarded("client", lambda: check_client(place))
    else:
        checks = asyncio.run(examine(place, lambda: check_configuration(place, values.config)))
    worst = max((each.status for each in checks), key=lambda status: EXIT_CODES[status])
    if values.json:
        answer = {"status": worst, "checks": checks}
        text = msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"
    else:
        text = report(checks)
    sys.stdout.write(text)
    return EXIT_CODES[worst]


async def examine(
    place: Place, configuration: Callable[[], tuple[object, Check]] | None = None
) -> list[Check]:
    """Return what all checks of an installation say. Raises nothing."""
    checks = []
    if configuration is not None:
        checks += _guarded("configuration", lambda: [_configured(place, configuration)])
    texts, found = await asyncio.gather(gather(place.data / "run" / "metrics"), _nats(place))
    place.series = tuple(series for text in texts.values() for series in parsed(text))
    usage = found.usage
    checks += _guarded("versions", lambda: [check_versions(place)])
    checks += _guarded("permissions", lambda: [check_permissions(place)])
    checks += _guarded("disk", lambda: [check_disk(place)])
    checks += found.checks
    checks += _guarded("services", lambda: check_parts(place))
    checks += _guarded("quotas", lambda: check_quotas(place))
    checks += _guarded("alerts", lambda: check_alerts(place))
    checks += _guarded("proxy", lambda: check_proxy(place))
    checks += _guarded("quack", lambda: check_quack(place))
    created, first = (usage.created, usage.first_sequence) if usage else (None, None)
    checks += _guarded("archive", lambda: [check_archive(place, created, first)])
    return checks


async def _nats(place: Place) -> NatsFindings:
    try:
        async with asyncio.timeout(NATS_TIMEOUT_S):
            return await check_nats(place)
    except Exception as error:  # noqa: BLE001 - the other checks go on
        return NatsFindings([_broken("NATS", error)])


def _configured(place: Place, configuration: Callable[[], tuple[object, Check]]) -> Check:
    place.config, check = configuration()  # type: ignore[assignment]
    return check


def _guarded(name: str, check: Callable[[], list[Check]]) -> list[Check]:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - the other checks go on
        return [_broken(name, error)]


def _broken(name: str, error: Exception) -> Check:
    reason = str(error) or type(error).__name__
    return failed(name, f"cannot be checked: {reason}", "run this as the gateway's own user")


def report(checks: list[Check]) -> str:
    """Return the checks as text, and how many there are of each kind."""
    lines = []
    for each in checks:
        lines.append(f"{_MARKS[each.status]}  {each.name}: {each.detail}")
        if each.remedy:
            lines.append(f"      -> {each.remedy}")
        lines += [f"         {line}" for line in each.lines]
    counts = Counter(each.status for each in checks)
    lines.append("")
    lines.append(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} faults")
    return "\n".join(lines) + "\n"
