"""Reading `model_list` into deployments, and which of them forward clients' own credentials."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from schemas.config import ANTHROPIC_API_BASE, Deployment, Settings
from schemas.registry import RATE_MAX
from services.runtime.config_addresses import AddressProblem, normal_api_base
from services.runtime.config_keys import nearest
from services.runtime.config_reader import ConfigReader
from services.runtime.yaml_lines import Node

__all__ = [
    "DEPLOYMENTS_MAX",
    "DeploymentDefaults",
    "Forwarding",
    "Parallel",
    "TimeoutS",
    "is_forwarded",
    "read_deployment",
    "read_deployments",
]

DEPLOYMENTS_MAX = 1000
"""A longer `model_list` is refused."""
TIMEOUT_S_DEFAULT = 600.0
"""Ten minutes, as LiteLLM's router has it."""

TimeoutS = Annotated[float, msgspec.Meta(ge=0.1, le=86_400)]
Rate = Annotated[int, msgspec.Meta(ge=1, le=RATE_MAX)]
Parallel = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
_Weight = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
_Order = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]

_PROVIDER = "anthropic/"
_ANTHROPIC_HOST = urlsplit(ANTHROPIC_API_BASE).hostname
_OAUTH_PREFIX = "sk-ant-oat"
_NAME_LENGTH_MAX = 256
_API_KEY = re.compile(r"[!-~]{1,4096}")


class Forwarding(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of forwarding: for all models, or the names of some, with their lines.

    A name may be a pattern with `*`, which stands for all models that it matches.
    """

    everything: bool = False
    names: tuple[tuple[str, int], ...] = ()

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names and patterns alone; `*` where it is on for all models."""
        return ("*",) if self.everything else tuple(name for name, _ in self.names)


def is_forwarded(patterns: Sequence[str], model_name: str) -> bool:
    """Tell whether one of these names or patterns is, or matches, a model name."""
    return any(
        pattern == model_name or _regex(pattern).fullmatch(model_name) for pattern in patterns
    )


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*"))


class DeploymentDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of all deployments."""

    timeout_s: float = TIMEOUT_S_DEFAULT
    stream_timeout_s: float | None = None
    max_parallel_requests: int | None = None
    insecure_http_hosts: tuple[str, ...] = ()


def read_deployments(
    reader: ConfigReader,
    model_list: Node | None,
    *,
    forwarding: Forwarding,
    defaults: DeploymentDefaults,
    settings: Settings,
) -> tuple[Deployment, ...]:
    """Return the deployments of `model_list`; those with problems are left out, after noting why.

    The id of a deployment is its `model_info.id`, or
    its model name and its place among the entries of that name: `claude-sonnet/0`.
    """
    items = reader.items(model_list, "model_list")
    if not items:
        line = model_list.line if model_list else 1
        reader.notice(line, "no model_list: every request for a model will be answered with 404")
    if len(items) > DEPLOYMENTS_MAX:
        reader.problem(items[DEPLOYMENTS_MAX].line, f"more than {DEPLOYMENTS_MAX} models")
        return ()
    defaults = msgspec.structs.replace(defaults, insecure_http_hosts=settings.insecure_http_hosts)
    deployments: list[Deployment] = []
    lines: list[int] = []
    places: Counter[str] = Counter()
    for index, item in enumerate(items):
        deployment = read_deployment(reader, item, f"model_list[{index}]", places, defaults)
        if deployment is not None:
            deployments.append(deployment)
            lines.append(item.line)
    _check_ids(reader, deployments, lines)
    known = tuple(name for name in places if name)
    forwarded = _forwarded(reader, known, forwarding)
    deployments = [
        msgspec.structs.replace(deployment, forward_client_auth=True)
        if forwarding.everything or deployment.model_name in forwarded
        else deployment
        for deployment in deployments
    ]
    _notice_credentials(reader, deployments, lines, settings)
    return tuple(deployments)


def read_deployment(
    reader: ConfigReader, item: Node, where: str, places: Counter[str], defaults: DeploymentDefaults
) -> Deployment | None:
    """Return the deployment of one entry; None where that fails, after noting why.

    `places` counts the entries of each model name, for ids where none is given.
    """
    if not isinstance(item.value, Mapping):
        reader.problem(item.line, f"{where} must be a mapping: model_name and litellm_params")
        return None
    entry = reader.section(item, "model_list", where)
    model_name = _model_name(reader, item, entry, where)
    place = places[model_name or ""]
    places[model_name or ""] += 1
    if "litellm_params" not in entry:
        reader.problem(item.line, f"{where}.litellm_params is missing: give it at least a model")
        return None
    params_where = f"{where}.litellm_params"
    params = reader.section(entry["litellm_params"], "litellm_params", params_where)
    model = _model(reader, entry["litellm_params"], params, params_where, model_name)
    api_key = _api_key(reader, params.get("api_key"), f"{params_where}.api_key")
    api_base = _api_base(reader, params.get("api_base"), f"{params_where}.api_base", defaults)
    limits = _limits(reader, params, params_where, defaults)
    info = reader.section(entry.get("model_info"), "model_info", f"{where}.model_info")
    given_id = _identifier(reader, info.get("id"), f"{where}.model_info.id")
    if model_name is None or model is None:
        return None
    return Deployment(
        deployment_id=given_id or f"{model_name}/{place}",
        model_name=model_name,
        model=model,
        api_key=api_key,
        api_base=api_base,
        **limits,
    )


def _limits(
    reader: ConfigReader, params: Mapping[str, Node], where: str, defaults: DeploymentDefaults
) -> dict[str, Any]:
    """Return the numbers of an entry by the names of Deployment's fields.

    A stream's timeout is the entry's own, that of all entries, or the one of other requests, in
    this order, as LiteLLM has it.
    """
    wanted = {
        "timeout_s": ("timeout", TimeoutS, defaults.timeout_s),
        "stream_timeout_s": ("stream_timeout", TimeoutS, defaults.stream_timeout_s),
        "weight": ("weight", _Weight, 1.0),
        "order": ("order", _Order, None),
        "max_parallel_requests": (
            "max_parallel_requests",
            Parallel,
            defaults.max_parallel_requests,
        ),
        "rpm": ("rpm", Rate, None),
        "tpm": ("tpm", Rate, None),
    }
    found = {}
    for field, (key, kind, default) in wanted.items():
        value = reader.typed(params.get(key), kind, f"{where}.{key}")
        found[field] = default if value is None else value
    return found


def _printable(text: str) -> bool:
    return 0 < len(text) <= _NAME_LENGTH_MAX and text.isprintable() and text == text.strip()


def _model_name(
    reader: ConfigReader, item: Node, entry: Mapping[str, Node], where: str
) -> str | None:
    node = entry.get("model_name")
    name = reader.text(node, f"{where}.model_name")
    if name is None:
        if node is None or node.value is None:
            reader.problem(item.line, f"{where}.model_name is missing")
        return None
    line = node.line if node else item.line
    if not _printable(name):
        reader.problem(
            line, f"{where}.model_name must be 1 to {_NAME_LENGTH_MAX} printable characters"
        )
        return None
    if name.count("*") > 1:
        reader.problem(line, f"{where}.model_name may hold one * at most")
        return None
    return name


def _model(
    reader: ConfigReader,
    node: Node,
    params: Mapping[str, Node],
    where: str,
    model_name: str | None,
) -> str | None:
    """Return the upstream's name of the model.

    `anthropic/*` means the model that was asked for. That is the last part of the model name, so
    a client that asks for `claude-opus-4` through `claude-*` gets `claude-opus-4`, not `opus-4`.
    """
    given = params.get("model")
    text = reader.text(given, f"{where}.model")
    if text is None:
        if given is None or given.value is None:
            reader.problem(node.line, f"{where}.model is missing: write anthropic/<model>")
        return None
    line = given.line if given else node.line
    model = text.removeprefix(_PROVIDER)
    if model == text or not _printable(model) or "/" in model:
        reader.problem(
            line,
            f"{where}.model must be anthropic/<model>, such as anthropic/claude-sonnet-4-5: "
            "other providers are not supported by tallygate",
        )
        return None
    if model_name is None:
        return None
    if model.count("*") > 1 or ("*" in model and "*" not in model_name):
        reader.problem(
            line, f"{where}.model may hold one * at most, and only where model_name holds one"
        )
        return None
    return model_name.rpartition("/")[2] if model == "*" else model


def _api_key(reader: ConfigReader, node: Node | None, where: str) -> str | None:
    text = reader.text(node, where)
    if text is None or node is None:
        return None
    if text.strip().startswith(_OAUTH_PREFIX):
        reader.problem(
            node.line,
            f"{where} is a person's own sign-in token (sk-ant-oat…), which may serve that person "
            "alone: use an API key, or let clients send their own "
            "(general_settings.forward_client_headers_to_llm_api)",
        )
        return None
    if not _API_KEY.fullmatch(text):
        reader.problem(node.line, f"{where} must be an API key: no spaces or line breaks in it")
        return None
    return text


def _api_base(
    reader: ConfigReader, node: Node | None, where: str, defaults: DeploymentDefaults
) -> str:
    text = reader.text(node, where)
    if text is None or node is None:
        return ANTHROPIC_API_BASE
    try:
        return normal_api_base(text, defaults.insecure_http_hosts)
    except AddressProblem as problem:
        reader.problem(node.line, f"{where} {problem}")
        return ANTHROPIC_API_BASE


def _identifier(reader: ConfigReader, node: Node | None, where: str) -> str | None:
    text = reader.text(node, where)
    if text is not None and node is not None and not _printable(text):
        reader.problem(node.line, f"{where} must be 1 to {_NAME_LENGTH_MAX} printable characters")
        return None
    return text


def _check_ids(
    reader: ConfigReader, deployments: Sequence[Deployment], lines: Sequence[int]
) -> None:
    seen: dict[str, int] = {}
    for deployment, line in zip(deployments, lines, strict=True):
        first = seen.setdefault(deployment.deployment_id, line)
        if first != line:
            reader.problem(
                line, f"model_info.id is also that of the model on line {first}: give it another"
            )


def _forwarded(
    reader: ConfigReader, known: tuple[str, ...], forwarding: Forwarding
) -> frozenset[str]:
    """Return the model names to forward for; a name that matches none is a problem."""
    forwarded: set[str] = set()
    for name, line in forwarding.names:
        found = {other for other in known if is_forwarded((name,), other)}
        if not found:
            near = nearest(name, known)
            reader.problem(
                line,
                "forward_client_headers_to_llm_api names a model that model_list does not have"
                + (f": did you mean {near}?" if near else ": remove it"),
            )
        forwarded |= found
    return frozenset(forwarded)


def _notice_credentials(
    reader: ConfigReader,
    deployments: Sequence[Deployment],
    lines: Sequence[int],
    settings: Settings,
) -> None:
    """Say at start what would otherwise be found out by a request that fails."""
    hosts_told: set[str] = set()
    for deployment, line in zip(deployments, lines, strict=True):
        name = deployment.model_name
        if deployment.api_key is None and not deployment.forward_client_auth:
            reader.notice(
                line,
                f"{name} has no api_key and forwards no client's own: its requests will be "
                "answered with 401 (an api_key is not taken from ANTHROPIC_API_KEY by itself: "
                "write api_key: os.environ/ANTHROPIC_API_KEY)",
            )
        host = urlsplit(deployment.api_base).hostname or ""
        own = deployment.api_base.startswith("https://") and host == _ANTHROPIC_HOST
        if (
            deployment.forward_client_auth
            and not own
            and host not in settings.oauth_hosts
            and host not in hosts_told
        ):
            hosts_told.add(host)
            reader.notice(
                line,
                f"clients' own credentials are not sent to {host}: if it may see them, list it "
                "under `tallygate: oauth_hosts`",
            )
