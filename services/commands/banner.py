"""What `tallygate serve` prints when it is ready: where it is, and the lines to paste."""

import shlex
from collections.abc import Mapping
from ipaddress import ip_address

from schemas.config import GatewayConfig
from services.runtime.config import MASTER_KEY_VARIABLES
from services.runtime.folder import DataFolder

__all__ = ["banner", "base_url"]


def base_url(host: str, port: int) -> str:
    """Return the URL under which a client on this machine reaches the gateway."""
    try:
        address = ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        return f"http://localhost:{port}"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"  # noqa: PLR2004


def banner(
    config: GatewayConfig,
    folder: DataFolder,
    url: str,
    *,
    environment: Mapping[str, str],
    ready_after_s: float,
) -> str:
    """Return the text. It names the master key's place, never the key."""
    place, in_shell = _master_key(config, folder, environment)
    names = [entry.model_name for entry in config.deployments if "*" not in entry.model_name]
    model = [f"  export ANTHROPIC_MODEL={shlex.quote(names[0])}"] if names else []
    lines = [
        f"tallygate listens on {url} (ready after {ready_after_s:.1f} s)",
        f"  the dashboard:   {url}/ui",
        f"  the ledger:      {folder.ledger_database}",
        f"  the master key:  {place}",
        *_quack(config, folder),
        "",
        "Make a virtual key, in the dashboard or here; its secret (sk-…) is shown once:",
        f"  curl -X POST {url}/key/generate -H {in_shell} \\",
        "    -H 'Content-Type: application/json' -d '{\"key_alias\": \"developer-1\"}'",
        "",
        "Then, where Claude Code runs (`tallygate claude-code --write` sets the same):",
        f"  export ANTHROPIC_BASE_URL={url}",
        *model,
        '  export ANTHROPIC_CUSTOM_HEADERS="x-litellm-api-key: Bearer sk-…"',
        "",
    ]
    return "\n".join(lines)


def _quack(config: GatewayConfig, folder: DataFolder) -> list[str]:
    """Return where DuckDB clients attach the ledger, unless that is turned off."""
    settings = config.settings
    if settings.quack_port == 0:
        return []
    host = f"[{settings.quack_host}]" if ":" in settings.quack_host else settings.quack_host
    address = f"quack:{host}:{settings.quack_port}"
    return [f"  for DuckDB:      {address} (the token: {folder.quack_token_file})"]


def _master_key(
    config: GatewayConfig, folder: DataFolder, environment: Mapping[str, str]
) -> tuple[str, str]:
    """Return where the master key is, and curl's header with it in a shell's words."""
    if config.master_key is None:
        path = folder.master_key_file
        return str(path), f'"Authorization: Bearer $(cat {shlex.quote(str(path))})"'
    for name in MASTER_KEY_VARIABLES:
        if environment.get(name) == config.master_key:
            return f"in the environment, ${name}", f'"Authorization: Bearer ${name}"'
    return f"as {config.path} says", "'Authorization: Bearer <the master key>'"
