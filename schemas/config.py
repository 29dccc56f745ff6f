"""The configuration after it was read and checked (services.runtime.config does both)."""

import msgspec

__all__ = ["ANTHROPIC_API_BASE", "Deployment", "GatewayConfig", "Settings"]

ANTHROPIC_API_BASE = "https://api.anthropic.com"


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream for a model name: an entry of `model_list`.

    `model_name` may hold one `*` (`claude-*`, `*`); then `model` may hold one too, which stands
    for what the name's star matched. `model` is the upstream's name, without `anthropic/`.
    `api_key` is the company's credential, None where only clients' own credentials are used.
    `forward_client_auth` says whether a client's own credential may be sent instead of it.
    """

    deployment_id: str
    model_name: str
    model: str
    api_key: str | None = None
    api_base: str = ANTHROPIC_API_BASE
    timeout_s: float = 600.0
    forward_client_auth: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The `tallygate:` section: what LiteLLM has no word for. docs/settings.md describes each."""

    nats_url: str | None = None
    admin_url: str | None = None
    oauth_hosts: tuple[str, ...] = ()
    budget_message: str = "ask your administrator to raise it"
    request_bytes_max: int = 32 * 1024 * 1024
    response_bytes_metered_max: int = 64 * 1024 * 1024
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0
    upstream_connections_max: int = 1000
    client_body_timeout_s: float = 60.0
    outbox_bytes_max: int = 1024 * 1024 * 1024
    outbox_full: str = "refuse"
    drain_timeout_s: float = 30.0
    client_disconnect: str = "cancel"
    log_level: str = "info"
    query_memory_bytes_max: int = 512 * 1024 * 1024


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All of config.yaml, checked. `path` is where it came from; `notices` are worth a log line.

    `master_key` is None where neither the file nor the environment names one; the caller then
    uses the one in the data folder.
    """

    path: str
    deployments: tuple[Deployment, ...] = ()
    master_key: str | None = None
    timezone: str = "UTC"
    settings: Settings = Settings()
    notices: tuple[str, ...] = ()
