"""The configuration after it was read and checked (services.runtime.config does both)."""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

import msgspec

from schemas.alerts import AlertDestination
from schemas.guardrails import Guardrail
from schemas.prices import PriceOverlay

__all__ = [
    "ANTHROPIC_API_BASE",
    "RESTART_SETTINGS",
    "ClientDisconnect",
    "Deployment",
    "GatewayConfig",
    "LogLevel",
    "OutboxFull",
    "RateLimitTokens",
    "RouterSettings",
    "RoutingStrategy",
    "SeatPrice",
    "Settings",
]

ANTHROPIC_API_BASE = "https://api.anthropic.com"

_SECRET_FIELDS = frozenset({"api_key", "master_key"})
_URL_CREDENTIALS = re.compile(r"//[^/]*@")

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
RateLimitTokens: TypeAlias = Literal["all", "uncached"]
OutboxFull: TypeAlias = Literal["refuse", "serve"]
ClientDisconnect: TypeAlias = Literal["cancel", "drain"]
RoutingStrategy: TypeAlias = Literal["simple-shuffle", "least-busy"]

RESTART_SETTINGS = frozenset(
    {
        "nats_url",
        "admin_url",
        "drain_timeout_s",
        "query_memory_bytes_max",
        "quack_host",
        "quack_port",
    }
)
"""The settings of the section `tallygate` that hold from the start of a process to its end. All
else in the file changes at run time."""

_KIB = 1024
_MIB = 1024 * _KIB
_GIB = 1024 * _MIB


def _shown(value: msgspec.Struct) -> list[tuple[str, object]]:
    """Return a struct's fields for people: secrets and credentials in URLs as `***`."""
    shown: list[tuple[str, object]] = []
    for name in value.__struct_fields__:
        field = getattr(value, name)
        if name in _SECRET_FIELDS and field is not None:
            field = "***"
        elif isinstance(field, str):
            field = _URL_CREDENTIALS.sub("//***@", field)
        shown.append((name, field))
    return shown


class _Discreet(msgspec.Struct, frozen=True, kw_only=True):
    """A struct whose `repr`, also that of rich, shows no secret."""

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={field!r}" for name, field in _shown(self))
        return f"{type(self).__name__}({fields})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Return the fields as rich's pretty printer wants them."""
        return _shown(self)


class Deployment(_Discreet, frozen=True, kw_only=True):
    """One upstream for a model name: an entry of `model_list`.

    `model_name` may hold one `*` (`claude-*`, `*`); then `model` may hold one too, which stands
    for what the name's star matched. `model` is the upstream's name, without `anthropic/`.
    `api_key` is the company's credential, None where only clients' own credentials are used.
    `api_base` has no slash at its end, no query and no credentials; paths such as `/v1/messages`
    are appended to it. `forward_client_auth` says whether a client's own credential may be sent
    instead of `api_key`.

    Among the deployments of one name, those of the lowest `order` come first (None: after all
    numbers), and of these each has a share by its `weight`. `timeout_s` bounds the time until the
    answer begins, `stream_timeout_s` that of a streamed one (None: the same). At most
    `max_parallel_requests` are under way at a time, in each worker. In any minute it gets `rpm`
    requests and is asked for nothing more once it has used `tpm` tokens, all proxies together.
    """

    deployment_id: str
    model_name: str
    model: str
    api_key: str | None = None
    api_base: str = ANTHROPIC_API_BASE
    timeout_s: float = 600.0
    forward_client_auth: bool = False
    weight: float = 1.0
    order: int | None = None
    stream_timeout_s: float | None = None
    max_parallel_requests: int | None = None
    rpm: int | None = None
    tpm: int | None = None


class RouterSettings(_Discreet, frozen=True, kw_only=True):
    """The section `router_settings`, where it is about all deployments. See docs/routing.md.

    `fallbacks` maps a model name, or `*` for every other one, to the names that are tried after
    it, in order. `model_group_alias` maps further names to model names; those in `hidden_aliases`
    are in no list of models. Nothing is repeated that may have been billed while `num_retries` is
    0. `allowed_fails` None: three, and a failure now and then among many successes does not count.
    """

    routing_strategy: RoutingStrategy = "simple-shuffle"
    num_retries: int = 0
    retry_after_s: float = 0.0
    allowed_fails: int | None = None
    cooldown_s: float = 5.0
    disable_cooldowns: bool = False
    fallbacks: Mapping[str, tuple[str, ...]] = {}
    model_group_alias: Mapping[str, str] = {}
    hidden_aliases: frozenset[str] = frozenset()


class Settings(_Discreet, frozen=True, kw_only=True):
    """The `tallygate:` section: what LiteLLM has no word for. docs/settings.md describes each.

    The bounds are checked where the file is read. Hosts are lower-case names or addresses
    without a port; `oauth_hosts` are those besides api.anthropic.com that may be sent a client's
    own credential, `insecure_http_hosts` those besides loopback that `http://` may be used with.
    """

    nats_url: str | None = None
    admin_url: str | None = None
    oauth_hosts: tuple[str, ...] = ()
    insecure_http_hosts: tuple[str, ...] = ()
    budgets_count_subscriptions: bool = True
    budget_message: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] = (
        "ask your administrator to raise it"
    )
    rate_limit_tokens: RateLimitTokens = "all"
    rate_limit_wait_s_max: Annotated[int, msgspec.Meta(ge=0, le=60)] = 60
    pass_through_paths: tuple[str, ...] = ()
    upload_bytes_max: Annotated[int, msgspec.Meta(ge=_KIB, le=1024 * _GIB)] = 512 * _MIB
    request_bytes_max: Annotated[int, msgspec.Meta(ge=_KIB, le=_GIB)] = 32 * _MIB
    response_bytes_metered_max: Annotated[int, msgspec.Meta(ge=64 * _KIB, le=4 * _GIB)] = 64 * _MIB
    connect_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=300)] = 10.0
    idle_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 300.0
    upstream_connections_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    upstream_connections_warm: Annotated[int, msgspec.Meta(ge=0, le=100)] = 2
    upstream_keepalive_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 20.0
    upstream_ca_file: str | None = None
    upstream_proxy: str | None = None
    client_body_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 60.0
    outbox_bytes_max: Annotated[int, msgspec.Meta(ge=64 * _KIB, le=1024 * _GIB)] = _GIB
    outbox_full: OutboxFull = "refuse"
    drain_timeout_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30.0
    client_disconnect: ClientDisconnect = "cancel"
    disconnect_drain_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 600.0
    usage_retention_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 30
    usage_stream_bytes_max: Annotated[int, msgspec.Meta(ge=64 * _KIB, le=1024 * _GIB)] = _GIB
    store_prompts: bool = False
    prompt_retention_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 30
    prompt_stream_bytes_max: Annotated[int, msgspec.Meta(ge=_MIB, le=1024 * _GIB)] = _GIB
    parquet_interval_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 60
    log_level: LogLevel = "info"
    query_memory_bytes_max: Annotated[int, msgspec.Meta(ge=16 * _MIB, le=1024 * _GIB)] = 512 * _MIB
    quack_host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)] = "127.0.0.1"
    quack_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 9494


class SeatPrice(_Discreet, frozen=True, kw_only=True):
    """What one subscription costs a month: an entry of `seats`.

    Either `user_id` or `key_alias` says whose requests go by it. `valid_from` is the first day
    (UTC), `valid_to` the first one that is not meant any more; None: open.
    """

    user_id: str | None = None
    key_alias: str | None = None
    plan: str | None = None
    monthly_usd: Decimal
    valid_from: date | None = None
    valid_to: date | None = None


class GlobalBudget(_Discreet, frozen=True):
    """What all keys together may spend in each window (None: there is one, without an end)."""

    max_budget_usd: Decimal
    budget_duration: str | None = None


class GatewayConfig(_Discreet, frozen=True, kw_only=True):
    """All of config.yaml, checked. `path` is where it came from; `notices` are worth a log line.

    `master_key` is None where neither the file nor the environment names one; the caller then
    uses the one in the data folder. `timezone` is a name that zoneinfo knows: budget windows begin
    at its midnights. `budget` is that of all keys together. `forward_models` are the names and
    patterns (`*`: all) of models for which clients' own credentials are forwarded,
    `request_timeout_s` is for models that name no time-out: both hold for models that are added at
    run time, too. `prices` are the entries that differ from the price book, `seats` what
    subscriptions cost, `alerts` who is told of what, `guardrails` what requests must pass.
    """

    path: str
    deployments: tuple[Deployment, ...] = ()
    forward_models: tuple[str, ...] = ()
    request_timeout_s: float = 600.0
    stream_timeout_s: float | None = None
    max_parallel_requests: int | None = None
    master_key: str | None = None
    timezone: str = "UTC"
    budget: GlobalBudget | None = None
    prices: tuple[PriceOverlay, ...] = ()
    seats: tuple[SeatPrice, ...] = ()
    alerts: tuple[AlertDestination, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    settings: Settings = Settings()
    router: RouterSettings = RouterSettings()
    notices: tuple[str, ...] = ()
