"""The registry's records: the whole state of a key, team, user or model, as its events carry it."""

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

__all__ = [
    "BUDGET_MODELS_MAX",
    "BUDGET_WINDOWS_MAX",
    "ENVIRONMENT_PREFIX",
    "RATE_MAX",
    "RATE_MODELS_MAX",
    "TEAM_MEMBERS_MAX",
    "BudgetWindow",
    "BudgetedRecord",
    "ConfigChange",
    "KeyRecord",
    "LimitedRecord",
    "ModelBudget",
    "ModelRecord",
    "OnQuotaExhausted",
    "OwnerRecord",
    "TeamMember",
    "TeamRecord",
    "UserRecord",
    "UserRole",
]

ENVIRONMENT_PREFIX = "os.environ/"
"""Begins a value that stands for a variable of the environment."""

_API_KEY_REFERENCE = re.compile(r"os\.environ/(?=\w*API_KEY)[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_SECRET = re.compile(r"\bsk-|\bbearer\s|//[^/\s]*@", re.IGNORECASE)
_NESTED_MAX = 8

OnQuotaExhausted = Literal["pay", "refuse"]
"""What happens to a request whose subscription's quota is used up: it goes to a deployment's
`api_key`, or the API's own refusal goes to the client."""

ModelId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_:-]{1,128}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


RATE_MAX = 10**12
"""The largest rate limit: more requests or tokens a minute than there will be."""
RATE_MODELS_MAX = 100
"""A record names limits of so many models at most."""


class LimitedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rate limits of a key, team or user: what may begin in any minute, or be under way.

    `rpm_limit` counts requests, `tpm_limit` tokens of all kinds; `model_rpm_limit` and
    `model_tpm_limit` do so for the models that they name, by the name that clients ask for or by a
    pattern with `*`. `max_parallel_requests` are under way at a time. None or empty: no limit.
    """

    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    model_rpm_limit: dict[str, int] = {}
    model_tpm_limit: dict[str, int] = {}


BUDGET_WINDOWS_MAX = 10
"""A record has so many further windows at most."""
BUDGET_MODELS_MAX = 100
"""A record has budgets of so many models at most."""


class BudgetWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A further budget: what may be spent in each window of this length."""

    max_budget_usd: Decimal
    budget_duration: str


class ModelBudget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What may be spent on a model, in each window (None: there is one, without an end)."""

    max_budget_usd: Decimal
    budget_duration: str | None = None


class BudgetedRecord(LimitedRecord, frozen=True, kw_only=True, omit_defaults=True):
    """The budgets of a key, team or user: `max_budget_usd` in its window, and further ones.

    `soft_budget_usd` refuses nothing: that it is reached is told. `model_max_budget` is by model
    name as clients ask for it, or by a pattern with one `*`. Until `temp_budget_expires_at_us`
    `max_budget_usd` counts as so much more as `temp_budget_increase_usd` says. `strict_budget`: no
    budget of it may be passed by more than one request of each proxy worker.
    """

    max_budget_usd: Decimal | None = None
    soft_budget_usd: Decimal | None = None
    budget_duration: str | None = None
    budget_limits: tuple[BudgetWindow, ...] = ()
    model_max_budget: dict[str, ModelBudget] = {}
    temp_budget_increase_usd: Decimal | None = None
    temp_budget_expires_at_us: int | None = None
    strict_budget: bool = False


class KeyRecord(BudgetedRecord, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The state of one virtual key. Every `key.*` event carries the whole record.

    Times are RFC 3339 UTC in microseconds since the epoch (`*_at_us`); money is a decimal string.
    An empty `models` allows every model. With `analyst` the key may ask the ledger in SQL, about
    the rows of its `team_id` (`team`; there must be one) or about `all`. With `names_end_users` it
    is a gateway's, whose word counts on who its end users are. `store_prompts` says whether what it
    asks and is answered is kept word for word; None: as the configuration says. `guardrails` names
    those that its requests must pass beside those that are on for all.
    `on_quota_exhausted` says what happens where the quota of its subscription is used up; None: as
    its team says. `deleted` marks the last record of a key: its history stays in the stream, the
    key is refused. `former_key_hash` is that of the key which `key_hash` replaced: it is the same
    key's until `former_key_until_us`; None: it ended when it was replaced. `without_role`: somebody
    else than its user and the admins came to know the key, so the user's role is not the key's.
    With `allowed_routes` (paths, and names of groups of them) it may call no others. `aliases` are
    model names that stand for others in its own requests. At `spend_reset_at_us` its spend was set
    to `spend_reset_to_usd`: its budgets count requests from then on, in that window.
    """

    key_id: str
    key_hash: str
    key_name: str
    key_alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    models: tuple[str, ...] = ()
    expires_at_us: int | None = None
    blocked: bool = False
    deleted: bool = False
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    analyst: Literal["team", "all"] | None = None
    names_end_users: bool = False
    store_prompts: bool | None = None
    on_quota_exhausted: OnQuotaExhausted | None = None
    guardrails: tuple[str, ...] = ()
    created_at_us: int = 0
    created_by: str | None = None
    updated_at_us: int = 0
    updated_by: str | None = None
    former_key_hash: str | None = None
    former_key_until_us: int | None = None
    without_role: bool = False
    allowed_routes: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    spend_reset_at_us: int | None = None
    spend_reset_to_usd: Decimal | None = None


class OwnerRecord(BudgetedRecord, frozen=True, kw_only=True, omit_defaults=True):
    """What a team and a user have in common: both own keys, which name them by their ids.

    `blocked`, `deleted`, `guardrails` and `models` hold for all of their keys, those that are made
    later too; an empty `models` allows every model. `deleted` marks the last record: the id is
    never given again.
    """

    models: tuple[str, ...] = ()
    blocked: bool = False
    deleted: bool = False
    metadata: dict[str, Any] = {}
    guardrails: tuple[str, ...] = ()
    created_at_us: int = 0
    created_by: str | None = None
    updated_at_us: int = 0
    updated_by: str | None = None


TEAM_MEMBERS_MAX = 500
"""A team has so many members at most."""


class TeamMember(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user in a team. An `admin` manages the team's members and keys.

    `max_budget_usd` is what the member's keys in the team may spend together, in windows of
    `budget_duration`. None: as the team says of its members.
    """

    user_id: str
    role: Literal["admin", "user"] = "user"
    max_budget_usd: Decimal | None = None
    budget_duration: str | None = None


class TeamRecord(OwnerRecord, frozen=True, kw_only=True, omit_defaults=True):
    """The state of one team. Every `team.*` event carries the whole record.

    `on_quota_exhausted` holds for its keys that say nothing of it; None: as without a team.
    `members_with_roles` has each user once; `team_member_budget_usd` in windows of
    `team_member_budget_duration` is the budget of each member who has no other.
    """

    team_id: str
    team_alias: str | None = None
    on_quota_exhausted: OnQuotaExhausted | None = None
    members_with_roles: tuple[TeamMember, ...] = ()
    team_member_budget_usd: Decimal | None = None
    team_member_budget_duration: str | None = None


UserRole = Literal["proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer"]
"""What a user's keys may do at the management API: everything, see everything, manage the user's
own keys, or see these."""


class UserRecord(OwnerRecord, frozen=True, kw_only=True, omit_defaults=True):
    """The state of one user. Every `user.*` event carries the whole record.

    Without a `user_role` the user's keys manage nothing, and each sees itself alone.
    """

    user_id: str
    user_alias: str | None = None
    user_email: str | None = None
    user_role: UserRole | None = None


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of one model that was added at run time: an entry of `model_list` as an event.

    `model_name`, `litellm_params` and `model_info` mean what they mean in the configuration file,
    and each proxy reads them by the same rules. No secret is in a record: `api_key` names a
    variable of the proxies' environment (`os.environ/NAME`, where NAME holds API_KEY), no other
    value may, and making or decoding a record with anything like a secret in it is an error.
    """

    model_id: ModelId
    model_name: str
    litellm_params: dict[str, Any]
    model_info: dict[str, Any] = {}
    deleted: bool = False
    created_at_us: int = 0
    created_by: str | None = None
    updated_at_us: int = 0
    updated_by: str | None = None

    def __post_init__(self) -> None:
        """Refuse a record that holds a secret. Raises ValueError, which quotes no value."""
        api_key = self.litellm_params.get("api_key")
        if api_key is not None and not (
            isinstance(api_key, str) and _API_KEY_REFERENCE.fullmatch(api_key)
        ):
            raise ValueError(
                "litellm_params.api_key must name a variable of the proxies' environment whose "
                "name holds API_KEY, such as os.environ/ANTHROPIC_API_KEY: events hold no secrets"
            )
        others = {name: value for name, value in self.litellm_params.items() if name != "api_key"}
        _refuse_secrets({"model_name": self.model_name, **others, "model_info": self.model_info})


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The order to take a new configuration file, which every process reads for itself.

    The event tells the file by its SHA-256 and holds nothing of its content: `changed` and
    `restart_needed` are names of keys. `path` is where the service that checked it has it.
    """

    sha256: Sha256
    path: str
    changed: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()
    changed_at_us: int = 0
    changed_by: str | None = None


def _refuse_secrets(value: object, where: str = "", depth: int = 0) -> None:
    """Raise ValueError for a text that looks like a secret, or stands for one, at any depth."""
    if depth > _NESTED_MAX:
        raise ValueError(f"{where} is nested more than {_NESTED_MAX} deep")
    if isinstance(value, dict):
        for name, item in value.items():
            _refuse_secrets(name, "a name", depth + 1)
            _refuse_secrets(item, f"{where}.{name}" if where else name, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_secrets(item, where, depth + 1)
    elif isinstance(value, str) and (value.startswith(ENVIRONMENT_PREFIX) or _SECRET.search(value)):
        raise ValueError(f"{where} holds a secret or stands for one: only api_key may name one")
