"""Reloading the configuration file: checked whole here, ordered by an event, then watched.

The event holds the file's digest; each process reads and checks its own file and says how it
stands when it is asked. An order is over when everyone who was there has dealt with it.
"""

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime

import msgspec

from schemas.errors import BadRequest, ConfigError, Conflict, TallygateError, Unavailable
from schemas.events import ConfigChanged, encode_event
from schemas.registry import ConfigChange
from schemas.rpc import ConfigState
from schemas.streams import CONFIG_STATE_SUBJECT, CONFIG_SUBJECT
from services.admin.bodies_config import ConfigStanding, ProcessStanding, Reloaded
from services.admin.origin import current_origin
from services.runtime.bus import Bus, BusError, BusUnavailable, WrongLastSequence
from services.runtime.config_changes import changed_keys, restart_needed
from services.runtime.config_file import ConfigFile, Reading
from services.runtime.registry import RegistrySnapshot

__all__ = ["PROCESSES_MAX", "TAKEN_WAIT_S", "ConfigReload"]

log = logging.getLogger(__name__)

PROCESSES_MAX = 1000
"""So many processes are asked how they stand; the answers of more are not waited for."""
ASK_WAIT_S = 0.5
"""How long processes that are not known yet may take to answer."""
TAKEN_WAIT_S = 5.0
"""How long the answer to a reload waits for all processes; what is late takes it all the same."""
POLL_S = 0.1
SOURCE = "/admin"

_NOT_STORED = "NATS cannot be reached, so nothing was changed. Try again when it is back"
_UNKNOWN = (
    "NATS did not confirm the order in time: it may be stored or not. Look with GET /config/state "
    "before you try again"
)


class ConfigReload:
    """Checks this service's file, orders everyone to take it, and says who has."""

    def __init__(self, bus: Bus, snapshot: RegistrySnapshot, file: ConfigFile) -> None:
        self._bus = bus
        self._snapshot = snapshot
        self._file = file
        self._lock = asyncio.Lock()

    async def reload(self, by: str, expected_sha256: str | None = None) -> Reloaded:
        """Have every process take the file as it is now.

        `expected_sha256` is what the caller believes to be in it. Raises BadRequest, which lists
        every problem of the file; Conflict where the file is another one than expected, or another
        reload came in between; Unavailable where the order cannot be stored.
        """
        async with self._lock:
            try:
                reading = await asyncio.to_thread(self._file.read)
                self._check_expected(reading, expected_sha256)
                config = await asyncio.to_thread(self._file.check, reading)
            except ConfigError as error:
                raise BadRequest(str(error), param="config") from None
            changed = changed_keys(self._file.config, config)
            change = ConfigChange(
                sha256=reading.sha256,
                path=str(self._file.path),
                changed=changed,
                restart_needed=restart_needed(self._file.config, config),
                changed_at_us=time.time_ns() // 1000,
                changed_by=by,
            )
            known = {state.process for state in await self._ask()}
            sequence = await self._order(change)
            log.info("a reload is ordered", extra={"sha256": change.sha256, "by": by})
            states = await self._watch(sequence, known)
        return Reloaded(
            sha256=change.sha256,
            path=change.path,
            changed=changed,
            notices=config.notices,
            restart_needed=_all_restarts(states),
            taken_by_all=bool(states) and all(_has_taken(each, change.sha256) for each in states),
            processes=_standings(states, change.sha256),
        )

    async def standing(self) -> ConfigStanding:
        """Return what was ordered last and how every process stands. Raises Unavailable."""
        states = await self._ask()
        change = self._snapshot.config_change
        ordered = change.sha256 if change is not None else None
        digests = {state.sha256 for state in states}
        return ConfigStanding(
            ordered_sha256=ordered,
            changed_at_us=change.changed_at_us if change is not None else None,
            changed_by=change.changed_by if change is not None else None,
            same_everywhere=len(digests) == 1,
            restart_needed=_all_restarts(states),
            processes=_standings(states, ordered),
        )

    async def on_hangup(self, hangup: asyncio.Event) -> None:
        """Reload at each SIGHUP, for ever; what comes of it is in the log."""
        while True:
            await hangup.wait()
            hangup.clear()
            try:
                done = await self.reload("SIGHUP")
            except TallygateError as error:
                for line in str(error).splitlines():
                    log.error("reload: %s", line)
                continue
            report = log.info if done.taken_by_all else log.error
            report(
                "reload: %s by %d processes",
                "taken" if done.taken_by_all else "NOT taken by all of them; asked were",
                len(done.processes),
                extra={"sha256": done.sha256, "restart_needed": ", ".join(done.restart_needed)},
            )

    def _check_expected(self, reading: Reading, expected_sha256: str | None) -> None:
        if expected_sha256 is not None and expected_sha256 != reading.sha256:
            raise Conflict(
                f"the gateway's file {self._file.path} has the SHA-256 {reading.sha256}, not "
                f"{expected_sha256}: bring the new file there first, to every machine",
                param="sha256",
            )

    async def _order(self, change: ConfigChange) -> int:
        """Store the event; return its sequence."""
        origin = current_origin()
        event = ConfigChanged(
            source=SOURCE,
            id=str(uuid.uuid4()),
            time=datetime.now(UTC),
            subject=CONFIG_SUBJECT,
            clientaddress=origin.client_address,
            route=origin.route,
            requestid=origin.request_id,
            data=change,
        )
        if not self._bus.is_connected:
            raise Unavailable(_NOT_STORED)
        try:
            return await self._bus.publish(
                CONFIG_SUBJECT,
                encode_event(event),
                message_id=event.id,
                expected_last_subject_sequence=self._snapshot.config_sequence,
            )
        except WrongLastSequence:
            raise Conflict(
                "another reload came at the same moment: look with GET /config/state",
                param="sha256",
            ) from None
        except BusUnavailable:
            raise Unavailable(_UNKNOWN) from None
        except BusError as error:
            log.error("NATS refused a config event: %s", error)
            raise Unavailable(
                "NATS refused to store the order, so nothing was changed; the log of the admin "
                "service says why"
            ) from None

    async def _watch(self, sequence: int, known: set[str]) -> list[ConfigState]:
        """Ask until all known processes have dealt with an order, or the time is over."""
        deadline_s = time.monotonic() + TAKEN_WAIT_S
        latest: dict[str, ConfigState] = {}
        while True:
            done = {each.process for each in latest.values() if each.handled_sequence >= sequence}
            # One that began only now is waited for like those that were there.
            wanted = (known | latest.keys()) - done
            if (latest and not wanted) or time.monotonic() > deadline_s:
                return list(latest.values())
            for state in await self._ask(wanted):
                latest[state.process] = state
            await asyncio.sleep(POLL_S)

    async def _ask(self, wanted: set[str] | None = None) -> list[ConfigState]:
        """Ask every process how it stands; `wanted` are those whose answers are enough.

        Raises Unavailable.
        """

        def is_enough(replies: list[bytes]) -> bool:
            return wanted is not None and wanted <= {each.process for each in _decoded(replies)}

        try:
            replies = await self._bus.ask_all(
                CONFIG_STATE_SUBJECT,
                b"{}",
                timeout_s=ASK_WAIT_S,
                replies_max=PROCESSES_MAX,
                is_enough=is_enough,
            )
        except BusUnavailable:
            raise Unavailable(_NOT_STORED) from None
        return _decoded(replies)


def _decoded(replies: list[bytes]) -> list[ConfigState]:
    return [msgspec.json.decode(reply, type=ConfigState) for reply in replies]


def _has_taken(state: ConfigState, sha256: str) -> bool:
    return state.sha256 == sha256


def _all_restarts(states: list[ConfigState]) -> tuple[str, ...]:
    return tuple(sorted({name for state in states for name in state.restart_needed}))


def _standings(states: list[ConfigState], ordered: str | None) -> tuple[ProcessStanding, ...]:
    return tuple(
        ProcessStanding(
            part=state.part,
            process=state.process,
            path=state.path,
            sha256=state.sha256,
            taken=ordered is None or _has_taken(state, ordered),
            problem=state.problem,
            restart_needed=state.restart_needed,
            unusable_models=state.unusable_models,
        )
        for state in sorted(states, key=lambda each: (each.part, each.process))
    )
