"""What differs between two configurations: names of keys, never values. Pure."""

from collections.abc import Iterator

import msgspec

from schemas.config import RESTART_SETTINGS, Deployment, GatewayConfig

__all__ = ["CHANGES_SHOWN_MAX", "changed_keys", "restart_needed"]

CHANGES_SHOWN_MAX = 100
"""More changes than this are counted, not listed."""

_NAMES = {
    "timezone": "litellm_settings.timezone",
    "budget": "litellm_settings.max_budget",
    "request_timeout_s": "litellm_settings.request_timeout",
    "stream_timeout_s": "router_settings.stream_timeout",
    "max_parallel_requests": "router_settings.default_max_parallel_requests",
    "forward_models": "forward_client_headers_to_llm_api",
}
_ROUTER_NAMES = {"retry_after_s": "retry_after", "cooldown_s": "cooldown_time"}
_NOT_COMPARED = frozenset({"path", "notices", "deployments", "settings", "router"})


def changed_keys(old: GatewayConfig, new: GatewayConfig) -> tuple[str, ...]:
    """Return the names of the keys whose values differ, as the file has them."""
    changes = [
        *_model_changes(old, new),
        *(_NAMES.get(name, name) for name in _differing(old, new) if name not in _NOT_COMPARED),
        *(
            f"router_settings.{_ROUTER_NAMES.get(name, name)}"
            for name in _differing(old.router, new.router)
        ),
        *(f"tallygate.{name}" for name in _differing(old.settings, new.settings)),
    ]
    if len(changes) > CHANGES_SHOWN_MAX:
        more = len(changes) - CHANGES_SHOWN_MAX
        changes[CHANGES_SHOWN_MAX:] = [f"… and {more} more"]
    return tuple(changes)


def restart_needed(old: GatewayConfig, new: GatewayConfig) -> tuple[str, ...]:
    """Return the names of the changed settings that only a restart puts in force."""
    return tuple(
        f"tallygate.{name}"
        for name in _differing(old.settings, new.settings)
        if name in RESTART_SETTINGS
    )


def _differing(old: msgspec.Struct, new: msgspec.Struct) -> list[str]:
    return [name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)]


def _model_changes(old: GatewayConfig, new: GatewayConfig) -> Iterator[str]:
    """Yield what became of the entries of model_list, by deployment id."""
    before: dict[str, Deployment] = {each.deployment_id: each for each in old.deployments}
    after: dict[str, Deployment] = {each.deployment_id: each for each in new.deployments}
    for name in before.keys() - after.keys():
        yield f"model_list: {name} removed"
    for name, deployment in after.items():
        if name not in before:
            yield f"model_list: {name} added"
        elif deployment != before[name]:
            yield f"model_list: {name} changed ({', '.join(_differing(before[name], deployment))})"
    if list(before) != list(after) and before.keys() == after.keys():
        yield "model_list: other order"
