"""The made-up company's registry: which team, user and key was made when, and by whom. Pure."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any, NamedTuple, TypeAlias

import msgspec

from schemas.events import (
    Event,
    KeyBlocked,
    KeyCreated,
    KeyDeleted,
    KeyRotated,
    KeyUpdated,
    TeamCreated,
    TeamUpdated,
    UserCreated,
    UserUpdated,
    us_from_time,
)
from schemas.keys import hash_key, key_name, new_key
from schemas.registry import KeyRecord, TeamMember, TeamRecord, UserRecord
from schemas.streams import key_subject, team_subject, user_subject
from services.demo import ids
from services.demo.conversation import Caller
from services.demo.people import PEOPLE, TEAMS, KeyPlan, Person, Team, key_plans

__all__ = ["Change", "Company", "Standing"]

Record: TypeAlias = KeyRecord | TeamRecord | UserRecord
_VERSIONS = ("2.1.318", "2.1.324", "2.1.330")
_ADDRESSES = ("192.0.2.14", "192.0.2.77", "198.51.100.9")
_MASTER = "master_key"
_ADMIN_ALIAS = "ana-laptop"


class Standing(NamedTuple):
    """What owners spent in the budget window of this moment, by scope and id, in US dollars."""

    budget_duration: str
    spent: dict[tuple[str, str], Decimal]

    def budget(self, scope: str, owner: str, factor: float | None) -> Decimal | None:
        """Return a round budget of which an owner has used about 1 / `factor`."""
        if factor is None:
            return None
        spent = self.spent.get((scope, owner), Decimal(0))
        return _rounded(max(Decimal("0.05"), spent) * Decimal(str(factor)))


class Change(NamedTuple):
    """One event of the registry, and the subject that it goes to."""

    subject: str
    event: Event


class Company:
    """The keys of everybody, and the changes that made them. Secrets are random at each start."""

    def __init__(self, rng: random.Random, now: datetime) -> None:
        self._rng = rng
        self._now = now
        self.secrets: dict[str, str] = {}
        """The secret of each key that works, by its alias."""
        self.callers: list[Caller] = []
        self._key_ids: dict[str, str] = {}
        for person, plan in key_plans():
            key_id = ids.key_id(rng)
            self._key_ids[plan.alias] = key_id
            # The draws are the same for all keys, or one key more would change all others.
            account, device = ids.hex_digits(rng, 32), ids.hex_digits(rng, 32)
            version = rng.choice(_VERSIONS)
            if plan.share:
                caller = Caller(
                    person=person,
                    plan=plan,
                    key_id=key_id,
                    device=device,
                    account=account,
                    version=version,
                )
                self.callers.append(caller)

    def changes(self, standing: Standing) -> list[Change]:
        """Return all changes of the registry, in the order of their times."""
        made = [*self._of_teams(standing), *self._of_users(standing), *self._of_keys(standing)]
        return sorted(made, key=lambda change: change.event.time)

    def key_id(self, alias: str) -> str:
        """Return the id of the key with an alias."""
        return self._key_ids[alias]

    def _of_teams(self, standing: Standing) -> Iterator[Change]:
        for index, team in enumerate(TEAMS):
            created = self._now - timedelta(days=64, hours=5, minutes=-7 * index)
            record = _team_record(team, created)
            yield self._change(TeamCreated, record, created, "POST /team/new")
            budget = standing.budget("team", team.team_id, team.budget_factor)
            of_members = standing.budget("team", team.team_id, team.member_budget_factor)
            if of_members is not None:
                at = self._now - timedelta(days=16, hours=6)
                record = msgspec.structs.replace(
                    self._touched(record, at),
                    team_member_budget_usd=of_members,
                    team_member_budget_duration=standing.budget_duration,
                )
                yield self._change(TeamUpdated, record, at, "POST /team/update")
            if budget is None:
                continue
            raised = msgspec.structs.replace(
                record,
                max_budget_usd=budget,
                soft_budget_usd=standing.budget("team", team.team_id, team.soft_factor),
                budget_duration=standing.budget_duration,
            )
            lower = msgspec.structs.replace(raised, max_budget_usd=_rounded(budget / 2))
            for days, state in ((30, lower), (8.2, raised)):
                at = self._now - timedelta(days=days)
                yield self._change(TeamUpdated, self._touched(state, at), at, "POST /team/update")

    def _of_users(self, standing: Standing) -> Iterator[Change]:
        for index, person in enumerate(PEOPLE):
            created = self._now - timedelta(days=63 - 4 * index, hours=3)
            record = UserRecord(
                user_id=person.user_id,
                user_alias=person.name,
                user_email=person.email,
                user_role=person.role,
                created_at_us=us_from_time(created),
                created_by=_MASTER,
                updated_at_us=us_from_time(created),
                updated_by=_MASTER,
            )
            yield self._change(UserCreated, record, created, "POST /user/new")
            budget = standing.budget("user", person.user_id, person.budget_factor)
            if budget is not None:
                at = self._now - timedelta(days=12, hours=2)
                changed = msgspec.structs.replace(
                    self._touched(record, at),
                    max_budget_usd=budget,
                    budget_duration=standing.budget_duration,
                )
                yield self._change(UserUpdated, changed, at, "POST /user/update")

    def _of_keys(self, standing: Standing) -> Iterator[Change]:
        for index, (person, plan) in enumerate(key_plans()):
            created = self._now - timedelta(days=62 - 3 * index, hours=2, minutes=11 * index)
            record = self._key_record(person, plan, created)
            yield self._change(KeyCreated, record, created, "POST /key/generate")
            yield from self._later(plan, record, standing)

    def _later(self, plan: KeyPlan, record: KeyRecord, standing: Standing) -> Iterator[Change]:
        """Yield what became of a key after it was made."""
        now = self._now
        if plan.fate == "blocked":
            at = now - timedelta(days=9, hours=1)
            changed = msgspec.structs.replace(self._touched(record, at), blocked=True)
            yield self._change(KeyBlocked, changed, at, "POST /key/block")
        if plan.fate == "deleted":
            at = now - timedelta(days=6, hours=7)
            changed = msgspec.structs.replace(self._touched(record, at), deleted=True)
            yield self._change(KeyDeleted, changed, at, "POST /key/delete")
        budget = standing.budget("key", record.key_id, plan.budget_factor)
        if budget is not None:
            changed = msgspec.structs.replace(
                record,
                max_budget_usd=budget,
                soft_budget_usd=standing.budget("key", record.key_id, plan.soft_factor),
                budget_duration=standing.budget_duration,
            )
            lower = msgspec.structs.replace(changed, max_budget_usd=_rounded(budget * 3 / 4))
            for days, state in ((5.3, lower), (1.1, changed)):
                at = now - timedelta(days=days)
                yield self._change(KeyUpdated, self._touched(state, at), at, "POST /key/update")
        if plan.alias == "chloe-macbook":
            at = now - timedelta(days=3, hours=4)
            secret = self._new_secret(plan)
            changed = msgspec.structs.replace(
                self._touched(record, at), key_hash=hash_key(secret), key_name=key_name(secret)
            )
            yield self._change(KeyRotated, changed, at, "POST /key/regenerate")

    def _touched(self, record: Any, at: datetime) -> Any:
        by = self._key_ids[_ADMIN_ALIAS]
        return msgspec.structs.replace(record, updated_at_us=us_from_time(at), updated_by=by)

    def _new_secret(self, plan: KeyPlan) -> str:
        secret = self.secrets[plan.alias] = new_key()
        return secret

    def _key_record(self, person: Person, plan: KeyPlan, created: datetime) -> KeyRecord:
        secret = self._new_secret(plan)
        expires = self._now - timedelta(days=2) if plan.fate == "expired" else None
        is_own = person.team_id == "platform" and plan.alias != _ADMIN_ALIAS
        by = self._key_ids[_ADMIN_ALIAS] if is_own else _MASTER
        return KeyRecord(
            key_id=self._key_ids[plan.alias],
            key_hash=hash_key(secret),
            key_name=key_name(secret),
            key_alias=plan.alias,
            user_id=person.user_id,
            team_id=person.team_id,
            models=plan.allowed,
            expires_at_us=us_from_time(expires) if expires is not None else None,
            rpm_limit=plan.rpm_limit,
            tpm_limit=plan.tpm_limit,
            max_parallel_requests=plan.max_parallel_requests,
            tags=plan.tags,
            created_at_us=us_from_time(created),
            created_by=by,
            updated_at_us=us_from_time(created),
            updated_by=by,
        )

    def _change(self, kind: Any, record: Record, at: datetime, route: str) -> Change:
        subject, about = _places(record)
        event: Event = kind(
            source="/admin",
            id=ids.session_id(self._rng),
            time=at,
            subject=about,
            clientaddress=self._rng.choice(_ADDRESSES),
            route=route,
            requestid="req_" + ids.hex_digits(self._rng, 32),
            data=record,
        )
        return Change(subject, event)


def _team_record(team: Team, created: datetime) -> TeamRecord:
    return TeamRecord(
        team_id=team.team_id,
        team_alias=team.name,
        guardrails=team.guardrails,
        members_with_roles=tuple(
            TeamMember(user_id=person.user_id, role="admin" if person.is_team_admin else "user")
            for person in PEOPLE
            if person.team_id == team.team_id
        ),
        rpm_limit=team.rpm_limit,
        created_at_us=us_from_time(created),
        created_by=_MASTER,
        updated_at_us=us_from_time(created),
        updated_by=_MASTER,
    )


def _places(record: Record) -> tuple[str, str]:
    """Return the subject of a record on the bus, and what its event is about."""
    if isinstance(record, KeyRecord):
        return key_subject(record.key_id), record.key_id
    if isinstance(record, TeamRecord):
        return team_subject(record.team_id), record.team_id
    return user_subject(record.user_id), record.user_id


def _rounded(amount: Decimal) -> Decimal:
    """Return an amount with three digits that count, rounded down, at least a cent."""
    step = max(Decimal("0.01"), Decimal(1).scaleb(amount.adjusted() - 2))
    cut = amount.quantize(step, rounding=ROUND_DOWN)
    # Without an exponent, as people write it.
    return max(Decimal("0.01"), Decimal(f"{cut:f}"))
