"""The made-up company: its teams, its people, their virtual keys, and how each of them works."""

from typing import Literal

import msgspec

from schemas.registry import UserRole

__all__ = [
    "HAIKU",
    "OPUS",
    "PEOPLE",
    "SONNET",
    "SPENT_ALIAS",
    "TEAMS",
    "KeyPlan",
    "Person",
    "Team",
    "key_plans",
]

OPUS, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"

SPENT_ALIAS = "diego-devbox"
"""The key whose budget is used up."""

Style = Literal["interactive", "pipeline", "batch"]
"""At a keyboard; in builds, at any hour; at night, in one go."""
Fate = Literal["used", "blocked", "expired", "deleted", "unused"]


class KeyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual key: `share` is its part of all sessions, `models` (name, weight) what it asks for.

    `session_tags`: the requests of a session bring one of them along.

    `monthly_budget` and `soft_budget` are parts of what it spends in the window: 0.96 is a budget
    that is exceeded. `seat` says that a subscription pays.
    """

    alias: str
    share: float
    models: tuple[tuple[str, float], ...]
    seat: bool = True
    style: Style = "interactive"
    fate: Fate = "used"
    entrypoint: str = "cli"
    budget_factor: float | None = None
    soft_factor: float | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    allowed: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    session_tags: tuple[str, ...] = ()


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One of the company; `hours` (UTC) are those of a working day, `weekend` how likely it is."""

    user_id: str
    name: str
    team_id: str
    keys: tuple[KeyPlan, ...]
    hours: tuple[int, int] = (8, 18)
    weekend: float = 0.05
    role: UserRole = "internal_user"
    is_team_admin: bool = False
    budget_factor: float | None = None

    @property
    def email(self) -> str:
        """The address, in a domain that is reserved for examples."""
        return f"{self.user_id}@acme.example"


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """A team; the factors as in KeyPlan. Each member's budget is a part of the team's spend."""

    team_id: str
    name: str
    budget_factor: float | None = None
    soft_factor: float | None = None
    guardrails: tuple[str, ...] = ()
    rpm_limit: int | None = None
    member_budget_factor: float | None = None


_OPUS_FIRST = ((OPUS, 0.8), (SONNET, 0.2))
_SONNET_FIRST = ((SONNET, 0.75), (OPUS, 0.25))
_SONNET_ONLY = ((SONNET, 1.0),)
_CHEAP = ((HAIKU, 0.7), (SONNET, 0.3))

TEAMS = (
    Team(team_id="platform", name="Platform", budget_factor=1.19),
    Team(team_id="product", name="Product & Apps", budget_factor=2.2, soft_factor=1.4),
    Team(
        team_id="data",
        name="Data & Research",
        guardrails=("customer data",),
        rpm_limit=600,
        member_budget_factor=0.9,
    ),
)
"""The platform team has used 84 % of its budget; the product team is past none of its own."""

PEOPLE = (
    Person(
        user_id="ana.novak",
        name="Ana Novak",
        team_id="platform",
        hours=(7, 17),
        weekend=0.2,
        role="proxy_admin",
        is_team_admin=True,
        keys=(KeyPlan(alias="ana-laptop", share=0.19, models=_OPUS_FIRST),),
    ),
    Person(
        user_id="ben.okafor",
        name="Ben Okafor",
        team_id="platform",
        keys=(
            KeyPlan(alias="ben-laptop", share=0.1, models=_SONNET_FIRST),
            KeyPlan(
                alias="ci-review-bot",
                share=0.11,
                models=_CHEAP,
                seat=False,
                style="pipeline",
                entrypoint="sdk-ts",
                rpm_limit=120,
                max_parallel_requests=8,
                allowed=(HAIKU, SONNET),
                tags=("ci",),
                session_tags=("repo:checkout", "repo:mobile", "repo:infra"),
            ),
        ),
    ),
    Person(
        user_id="chloe.martin",
        name="Chloé Martin",
        team_id="platform",
        role="proxy_admin_viewer",
        hours=(9, 19),
        keys=(KeyPlan(alias="chloe-macbook", share=0.09, models=_SONNET_FIRST),),
    ),
    Person(
        user_id="diego.ramos",
        name="Diego Ramos",
        team_id="product",
        hours=(12, 22),
        weekend=0.1,
        budget_factor=3.0,
        keys=(
            KeyPlan(alias="diego-laptop", share=0.1, models=_OPUS_FIRST),
            KeyPlan(
                alias=SPENT_ALIAS,
                share=0.07,
                models=_SONNET_FIRST,
                seat=False,
                budget_factor=0.96,
            ),
        ),
    ),
    Person(
        user_id="emi.tanaka",
        name="Emi Tanaka",
        team_id="product",
        hours=(0, 9),
        keys=(
            KeyPlan(
                alias="emi-laptop",
                share=0.1,
                models=_SONNET_FIRST,
                entrypoint="claude-vscode",
                budget_factor=2.6,
                soft_factor=0.9,
            ),
        ),
    ),
    Person(
        user_id="farid.haddad",
        name="Farid Haddad",
        team_id="product",
        keys=(
            KeyPlan(alias="farid-laptop", share=0.06, models=_SONNET_ONLY, tpm_limit=4_000_000),
            KeyPlan(alias="workshop-november", share=0.0, models=_CHEAP, fate="expired"),
        ),
    ),
    Person(
        user_id="greta.lind",
        name="Greta Lind",
        team_id="product",
        is_team_admin=True,
        hours=(6, 15),
        keys=(
            KeyPlan(alias="greta-laptop", share=0.05, models=_SONNET_FIRST),
            KeyPlan(
                alias="docs-search",
                share=0.04,
                models=((HAIKU, 1.0),),
                seat=False,
                style="pipeline",
                entrypoint="sdk-py",
                allowed=(HAIKU,),
                tags=("docs", "customer-facing"),
            ),
        ),
    ),
    Person(
        user_id="hana.kim",
        name="Hana Kim",
        team_id="data",
        is_team_admin=True,
        hours=(8, 20),
        weekend=0.15,
        keys=(
            KeyPlan(alias="hana-workstation", share=0.09, models=_OPUS_FIRST),
            KeyPlan(alias="old-contractor", share=0.0, models=_CHEAP, seat=False, fate="blocked"),
        ),
    ),
    Person(
        user_id="ivo.petrov",
        name="Ivo Petrov",
        team_id="data",
        keys=(
            KeyPlan(alias="ivo-laptop", share=0.05, models=_SONNET_FIRST, budget_factor=1.6),
            KeyPlan(
                alias="nightly-evals",
                share=0.05,
                models=((OPUS, 0.4), (SONNET, 0.6)),
                seat=False,
                style="batch",
                entrypoint="sdk-py",
                budget_factor=1.3,
                tags=("evals",),
                session_tags=("suite:regression", "suite:safety"),
            ),
            KeyPlan(alias="ivo-old-laptop", share=0.0, models=_CHEAP, fate="deleted"),
            KeyPlan(alias="ivo-notebook", share=0.0, models=_SONNET_ONLY, fate="unused"),
        ),
    ),
)


def key_plans() -> list[tuple[Person, KeyPlan]]:
    """Return every key of the company, and whose it is."""
    return [(person, plan) for person in PEOPLE for plan in person.keys]
