"""Reading config.yaml, LiteLLM's file, whole: every problem at once, each with its line.

docs/settings.md describes each key that is understood, and those of LiteLLM's that are not.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from schemas.config import GatewayConfig
from schemas.errors import ConfigError
from schemas.keys import KEY_LENGTH_MAX
from services.runtime.config_alerts import read_alerts
from services.runtime.config_budget import read_global_budget
from services.runtime.config_guardrails import read_guardrails
from services.runtime.config_litellm_prices import read_litellm_prices
from services.runtime.config_models import Forwarding, read_deployments
from services.runtime.config_prices import read_prices
from services.runtime.config_reader import ConfigReader
from services.runtime.config_router import read_defaults, read_router
from services.runtime.config_seats import read_seats
from services.runtime.config_settings import read_settings
from services.runtime.durations import named_timezone
from services.runtime.yaml_lines import FILE_BYTES_MAX, Node, YamlProblem, parse_yaml

__all__ = [
    "MASTER_KEY_LENGTH_MIN",
    "MASTER_KEY_VARIABLES",
    "load_config",
    "read_config",
    "read_content",
]

MASTER_KEY_VARIABLES = ("TALLYGATE_MASTER_KEY", "LITELLM_MASTER_KEY")
"""Where a master key is taken from, in this order, if the file names none."""
MASTER_KEY_LENGTH_MIN = 16
"""A shorter master key is used, but warned of."""

_MASTER_KEY = re.compile(rf"[!-~]{{1,{KEY_LENGTH_MAX}}}")
_FORWARD = "forward_client_headers_to_llm_api"


def load_config(path: Path, environment: Mapping[str, str]) -> GatewayConfig:
    """Return the checked configuration of a file.

    Raises ConfigError, which lists every problem found, each with file and line.
    """
    return read_config(read_content(path), str(path), environment)


def read_content(path: Path) -> bytes:
    """Return a file's content, one byte beyond its limit at most. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"the configuration {path} cannot be read ({error.strerror}): "
            "give another one with --config FILE"
        ) from None


def read_config(content: bytes, path: str, environment: Mapping[str, str]) -> GatewayConfig:
    """Return the checked configuration that `content` holds; `path` is for messages alone.

    Raises ConfigError as load_config does.
    """
    reader = ConfigReader(path, environment)
    try:
        root = parse_yaml(content)
    except YamlProblem as problem:
        raise ConfigError(
            f"the configuration cannot be used:\n{path}:{problem.line}: {problem.message}"
        ) from None
    top = reader.section(root, "", "")
    settings = read_settings(reader, top.get("tallygate"))
    general = reader.section(top.get("general_settings"), "general_settings", "general_settings")
    litellm = reader.section(top.get("litellm_settings"), "litellm_settings", "litellm_settings")
    router = reader.section(top.get("router_settings"), "router_settings", "router_settings")
    defaults = read_defaults(reader, router, litellm)
    forwarding = _forwarding(reader, top, general, litellm)
    deployments = read_deployments(
        reader,
        top.get("model_list"),
        forwarding=forwarding,
        defaults=defaults,
        settings=settings,
    )
    router_settings = read_router(reader, router, litellm, top.get("model_list"))
    others = read_litellm_prices(reader, top.get("model_list"), litellm, top.get("prices"))
    prices = read_prices(reader, top.get("prices"), others)
    seats = read_seats(reader, top.get("seats"))
    alerts = read_alerts(reader, top.get("alerts"))
    guardrails = read_guardrails(reader, top.get("guardrails"), settings)
    master_key = _master_key(reader, litellm.get("master_key"), general.get("master_key"))
    timezone = _timezone(reader, litellm.get("timezone"))
    budget = read_global_budget(reader, litellm)
    reader.raise_problems()
    return GatewayConfig(
        path=path,
        deployments=deployments,
        forward_models=forwarding.patterns,
        request_timeout_s=defaults.timeout_s,
        stream_timeout_s=defaults.stream_timeout_s,
        max_parallel_requests=defaults.max_parallel_requests,
        master_key=master_key,
        timezone=timezone,
        budget=budget,
        prices=prices,
        seats=seats,
        alerts=alerts,
        guardrails=guardrails,
        settings=settings,
        router=router_settings,
        notices=reader.notices,
    )


def _forwarding(
    reader: ConfigReader,
    top: Mapping[str, Node],
    general: Mapping[str, Node],
    litellm: Mapping[str, Node],
) -> Forwarding:
    everything: bool | None = reader.typed(
        general.get(_FORWARD), bool, f"general_settings.{_FORWARD}"
    )
    names: list[tuple[str, int]] = []
    for node, where in (
        (litellm.get("model_group_settings"), "litellm_settings.model_group_settings"),
        (top.get("model_group_settings"), "model_group_settings"),
    ):
        group = reader.section(node, "model_group_settings", where)
        for item in reader.items(group.get(_FORWARD), f"{where}.{_FORWARD}"):
            name = reader.text(item, f"an entry of {where}.{_FORWARD}")
            if name is not None:
                names.append((name, item.line))
    return Forwarding(everything=bool(everything), names=tuple(names))


def _master_key(
    reader: ConfigReader, in_litellm: Node | None, in_general: Node | None
) -> str | None:
    """Return the master key of the file, else of the environment, else None.

    A variable that the file asks for and that is not set is no problem here: a fresh machine has
    none, and a key is then generated into the data folder.
    """
    found: list[tuple[str, int, str]] = []
    unset: dict[str, int] = {}
    for node, section in ((in_litellm, "litellm_settings"), (in_general, "general_settings")):
        variable = reader.unset_variable(node)
        if variable is not None and node is not None:
            unset[variable] = node.line
            continue
        key = reader.text(node, f"{section}.master_key")
        if key and node is not None:
            found.append((key, node.line, f"{section}.master_key"))
    if len({key for key, _, _ in found}) > 1:
        line = max(line for _, line, _ in found)
        reader.problem(line, "two different master keys, in two sections: keep one of them")
    for name in () if found else MASTER_KEY_VARIABLES:
        key = reader.variable(name)
        if key is not None:
            found.append((key, 0, f"the environment's {name}"))
            break
    if not found:
        for name, line in unset.items():
            reader.notice(
                line,
                f"the environment variable {name} is not set: the master key of the data folder "
                "is used, which is generated once",
            )
        return None
    key, line, source = found[0]
    if not _MASTER_KEY.fullmatch(key):
        reader.problem(
            line, f"{source} must be 1 to {KEY_LENGTH_MAX} plain characters without spaces"
        )
    elif len(key) < MASTER_KEY_LENGTH_MIN:
        reader.notice(
            line,
            f"{source} is shorter than {MASTER_KEY_LENGTH_MIN} characters and can be guessed: "
            "use a long random one before others can reach this gateway",
        )
    return key


def _timezone(reader: ConfigReader, node: Node | None) -> str:
    name = reader.text(node, "litellm_settings.timezone")
    if name is None or node is None:
        return "UTC"
    try:
        named_timezone(name)
    except ValueError as error:
        reader.problem(node.line, f"litellm_settings.timezone {error}")
        return "UTC"
    return name
