"""The routes about alerts: who is told of what, what could not be delivered, and a test."""

from typing import Any

from litestar import Request, Response, get, post

from schemas.errors import Unavailable
from services.admin.alert_dead import undelivered
from services.admin.alert_rules import is_asked_for
from services.admin.bodies_alerts import (
    AlertDestinations,
    AlertTested,
    DestinationRow,
)
from services.admin.describing import Description, described
from services.admin.guard import caller_of
from services.admin.reading import answer_json
from services.admin.state import AdminState
from services.runtime.bus import BusError

__all__ = ["ALERT_ROUTES"]

_TESTED = "alert.tested"


@get(
    "/alerts",
    opt=described(
        Description(
            summary="Who is told of what",
            description=(
                "The destinations of `alerts:` in the configuration, without where they lead to, "
                "and the last 100 alerts that could not be delivered, the newest first."
            ),
            tag="alerts",
            answer=AlertDestinations,
        ),
        access="read",
    ),
)
async def alerts_list(admin: AdminState) -> Response[bytes]:
    """Show the destinations and what could not be delivered."""
    rows = tuple(
        DestinationRow(
            name=each.name,
            kind=each.kind,
            events=each.events,
            teams=each.teams,
            users=each.users,
            keys=each.keys,
        )
        for each in admin.alerts.destinations
    )
    try:
        dead = await undelivered(admin.bus)
    except (BusError, TimeoutError):
        raise _unavailable() from None
    return answer_json(AlertDestinations(destinations=rows, undelivered=dead))


@post(
    "/alerts/test",
    status_code=200,
    opt=described(
        Description(
            summary="Send an alert to see whether it arrives",
            description=(
                "Raises `alert.tested`, which goes to every destination whose `events` hold it "
                "(as those do that name none), whatever it is otherwise told of. What cannot be "
                "delivered is shown by GET /alerts and in the log."
            ),
            tag="alerts",
            answer=AlertTested,
        )
    ),
)
async def alerts_test(request: Request[Any, Any, Any], admin: AdminState) -> Response[bytes]:
    """Raise an alert that is a test."""
    try:
        event_id = await admin.alerts.test(caller_of(request).name)
    except BusError:
        raise _unavailable() from None
    told = tuple(each.name for each in admin.alerts.destinations if is_asked_for(_TESTED, each))
    return answer_json(AlertTested(event_id=event_id, destinations=told))


def _unavailable() -> Unavailable:
    return Unavailable(
        "alerts cannot be read or stored: NATS is not there. Try again in some seconds"
    )


ALERT_ROUTES = (alerts_list, alerts_test)
