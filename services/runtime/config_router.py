"""Reading `router_settings`: how deployments are chosen, and what is tried when one fails.

LiteLLM takes the same keys under `litellm_settings`; where both have one, `router_settings` counts.
docs/routing.md says what each does.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

from schemas.config import RouterSettings, RoutingStrategy
from services.runtime.config_keys import nearest
from services.runtime.config_models import DeploymentDefaults, Parallel, TimeoutS
from services.runtime.config_reader import ConfigReader
from services.runtime.yaml_lines import Node

__all__ = ["ALIASES_MAX", "FALLBACKS_MAX", "NUM_RETRIES_MAX", "read_defaults", "read_router"]

NUM_RETRIES_MAX = 10
"""More repetitions of one request than this cannot be configured."""
FALLBACKS_MAX = 10
"""A model name may have so many fallbacks; `max_fallbacks` makes it fewer."""
FALLBACKS_DEFAULT = 5
"""`max_fallbacks` where the file names none, as LiteLLM has it."""
ALIASES_MAX = 1000
"""A longer `model_group_alias` is refused, and so are more names with fallbacks."""

_Retries = Annotated[int, msgspec.Meta(ge=0, le=NUM_RETRIES_MAX)]
_WaitS = Annotated[float, msgspec.Meta(ge=0, le=60)]
_Fails = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
_CooldownS = Annotated[float, msgspec.Meta(ge=0, le=3600)]
_Fallbacks = Annotated[int, msgspec.Meta(ge=0, le=FALLBACKS_MAX)]

_EVERY_OTHER = "*"


class _Keys:
    """The keys of `router_settings`, from either of the sections that may hold them."""

    def __init__(
        self, reader: ConfigReader, router: Mapping[str, Node], litellm: Mapping[str, Node]
    ) -> None:
        self._reader = reader
        self._sections = (("router_settings", router), ("litellm_settings", litellm))

    def find(self, key: str) -> tuple[Node | None, str]:
        """Return a key's value and its path in the file."""
        for section, entries in self._sections:
            node = entries.get(key)
            if node is not None and node.value is not None:
                return node, f"{section}.{key}"
        return None, key

    def typed(self, key: str, kind: object, default: Any) -> Any:
        node, where = self.find(key)
        value = self._reader.typed(node, kind, where)
        return default if value is None else value


def read_defaults(
    reader: ConfigReader, router: Mapping[str, Node], litellm: Mapping[str, Node]
) -> DeploymentDefaults:
    """Return what holds for entries of `model_list` that do not say it themselves."""
    keys = _Keys(reader, router, litellm)
    plain = DeploymentDefaults()
    request_timeout_s = keys.typed("request_timeout", TimeoutS, plain.timeout_s)
    return DeploymentDefaults(
        timeout_s=keys.typed("timeout", TimeoutS, request_timeout_s),
        stream_timeout_s=keys.typed("stream_timeout", TimeoutS, plain.stream_timeout_s),
        max_parallel_requests=keys.typed(
            "default_max_parallel_requests", Parallel, plain.max_parallel_requests
        ),
    )


def read_router(
    reader: ConfigReader,
    router: Mapping[str, Node],
    litellm: Mapping[str, Node],
    model_list: Node | None,
) -> RouterSettings:
    """Return the settings of routing; what is wrong is noted and left out."""
    keys = _Keys(reader, router, litellm)
    plain = RouterSettings()
    models = _model_names(model_list)
    aliases, hidden = _aliases(reader, keys, models)
    names = _Names(models | set(aliases))
    return RouterSettings(
        routing_strategy=keys.typed("routing_strategy", RoutingStrategy, plain.routing_strategy),
        num_retries=keys.typed("num_retries", _Retries, plain.num_retries),
        retry_after_s=keys.typed("retry_after", _WaitS, plain.retry_after_s),
        allowed_fails=keys.typed("allowed_fails", _Fails, plain.allowed_fails),
        cooldown_s=keys.typed("cooldown_time", _CooldownS, plain.cooldown_s),
        disable_cooldowns=keys.typed("disable_cooldowns", bool, plain.disable_cooldowns),
        fallbacks=_fallbacks(reader, keys, names),
        model_group_alias=aliases,
        hidden_aliases=frozenset(hidden),
    )


class _Names:
    """The names that a request may ask for: those of models and aliases, patterns among them."""

    def __init__(self, names: set[str]) -> None:
        self.all = tuple(sorted(names))
        self._patterns = [
            re.compile(re.escape(name).replace(r"\*", ".*")) for name in names if "*" in name
        ]

    def has(self, name: str) -> bool:
        return name in self.all or any(pattern.fullmatch(name) for pattern in self._patterns)


def _model_names(model_list: Node | None) -> set[str]:
    """Return the names in `model_list`, also of entries that have problems."""
    items = model_list.value if model_list is not None else ()
    found = set()
    for item in items if isinstance(items, tuple) else ():
        name = item.value.get("model_name") if isinstance(item.value, Mapping) else None
        if name is not None and isinstance(name.value, str):
            found.add(name.value)
    return found


def _aliases(
    reader: ConfigReader, keys: _Keys, models: set[str]
) -> tuple[dict[str, str], set[str]]:
    """Return model names by alias, and the aliases that no list of models shall show."""
    node, where = keys.find("model_group_alias")
    aliases: dict[str, str] = {}
    hidden: set[str] = set()
    names = _Names(models)
    for alias, entry in _entries(reader, node, where):
        target = entry
        if isinstance(entry.value, Mapping):
            target = entry.value.get("model", Node(entry.line, None))
            is_hidden = reader.typed(entry.value.get("hidden"), bool, f"{where}: hidden")
            if entry.value.keys() - {"model", "hidden"}:
                reader.problem(entry.line, f"{where}: an alias has model and hidden alone")
        else:
            is_hidden = False
        name = reader.text(target, f"an alias of {where}")
        if alias in models or "*" in alias or not alias:
            reader.problem(
                entry.line, f"{where}: an alias must be a name that model_list does not have"
            )
        elif name is None:
            if target.value is None:
                reader.problem(entry.line, f"{where}: an alias must have a model")
        elif _is_known(reader, target.line, name, names, where):
            aliases[alias] = name
            if is_hidden:
                hidden.add(alias)
    return aliases, hidden


def _fallbacks(reader: ConfigReader, keys: _Keys, names: _Names) -> dict[str, tuple[str, ...]]:
    """Return for each model name those that are tried after it; `*` is for all others."""
    longest = keys.typed("max_fallbacks", _Fallbacks, FALLBACKS_DEFAULT)
    found: dict[str, tuple[str, ...]] = {}
    node, where = keys.find("default_fallbacks")
    listed = _names_in(reader, node, where, names)
    if listed:
        found[_EVERY_OTHER] = listed[:longest]
    node, where = keys.find("fallbacks")
    for item in reader.items(node, where):
        for name, entry in _entries(reader, item, f"an entry of {where}"):
            if name != _EVERY_OTHER and not _is_known(reader, entry.line, name, names, where):
                continue
            listed = _names_in(reader, entry, where, names)
            if name in listed:
                reader.problem(entry.line, f"{where}: a model cannot be its own fallback")
            if name in found and name != _EVERY_OTHER:
                reader.problem(entry.line, f"{where} lists a model twice: keep one of them")
            found[name] = listed[:longest]
    if len(found) > ALIASES_MAX:
        reader.problem(node.line if node else 0, f"{where} lists more than {ALIASES_MAX} models")
    return {name: listed for name, listed in found.items() if listed}


def _entries(reader: ConfigReader, node: Node | None, where: str) -> Iterator[tuple[str, Node]]:
    """Yield the entries of a mapping whose keys are names of models."""
    if node is None or node.value is None:
        return
    if not isinstance(node.value, Mapping):
        reader.problem(node.line, f"{where} must be a mapping of model names")
        return
    for _, line in node.twice:
        reader.problem(line, f"{where}: a name stands twice: keep one of them")
    if len(node.value) > ALIASES_MAX:
        reader.problem(node.line, f"{where} has more than {ALIASES_MAX} names")
        return
    yield from node.value.items()


def _names_in(
    reader: ConfigReader, node: Node | None, where: str, names: _Names
) -> tuple[str, ...]:
    """Return the model names of a list, each once, without those that are not known."""
    found: dict[str, None] = {}
    items = reader.items(node, where)
    if len(items) > FALLBACKS_MAX and node is not None:
        reader.problem(node.line, f"{where} lists more than {FALLBACKS_MAX} fallbacks")
    for item in items:
        name = reader.text(item, f"a model name of {where}")
        if name is not None and _is_known(reader, item.line, name, names, where):
            found[name] = None
    return tuple(found)


def _is_known(reader: ConfigReader, line: int, name: str, names: _Names, where: str) -> bool:
    if names.has(name):
        return True
    near = nearest(name, names.all)
    reader.problem(
        line,
        f"{where} names a model that model_list does not have"
        + (f": did you mean {near}?" if near else ": add it there, or remove it here"),
    )
    return False
