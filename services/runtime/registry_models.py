"""The registry's models as deployments: read by the same rules as `model_list` of the file."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from schemas.config import Deployment, GatewayConfig
from schemas.registry import ModelRecord
from services.runtime.config_keys import LITELLM_PRICES
from services.runtime.config_models import (
    DEPLOYMENTS_MAX,
    DeploymentDefaults,
    is_forwarded,
    read_deployment,
)
from services.runtime.config_reader import ConfigReader
from services.runtime.yaml_lines import Node

__all__ = ["RegistryModels", "UnusableModel"]

_REASON_LENGTH_MAX = 1000
_WHERE = re.compile(r"\bmodel\.(?=litellm_params|model_info|model_name)")


class UnusableModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the registry that this process cannot serve, and why, without any secret."""

    model_id: str
    model_name: str
    reason: str


class RegistryModels:
    """Reads the registry's models under one configuration.

    What was read of a record is remembered: of a thousand models one changes at a time, and to read
    all of them anew takes 80 ms, for which the streams of this process would stand still.
    """

    def __init__(self, config: GatewayConfig, environment: Mapping[str, str]) -> None:
        self._config = config
        self._environment = environment
        self._taken = {each.deployment_id for each in config.deployments}
        self._read: dict[str, tuple[ModelRecord, Deployment | None, tuple[str, ...]]] = {}

    def deployments(
        self, models: Sequence[ModelRecord]
    ) -> tuple[tuple[Deployment, ...], tuple[UnusableModel, ...]]:
        """Return the deployments of the models, and those models that cannot be used here.

        The id of a deployment is the model's id. The file comes first: a model whose id the file
        has already is not used, and file and registry together have DEPLOYMENTS_MAX deployments at
        most. Time-outs, forwarding and the hosts that `http://` may be used with are the file's.
        """
        deployments: list[Deployment] = []
        unusable: list[UnusableModel] = []
        self._read = {record.model_id: self._reading(record) for record in models}
        for record, deployment, problems in self._read.values():
            reasons = list(problems)
            if record.model_id in self._taken:
                reasons.append("its id is also that of a model of the configuration file")
            elif len(self._taken) + len(deployments) >= DEPLOYMENTS_MAX:
                reasons.append(f"there are {DEPLOYMENTS_MAX} other models already")
            if deployment is not None and not reasons:
                deployments.append(deployment)
                continue
            text = _WHERE.sub("", "; ".join(reasons))[:_REASON_LENGTH_MAX]
            unusable.append(
                UnusableModel(model_id=record.model_id, model_name=record.model_name, reason=text)
            )
        return tuple(deployments), tuple(unusable)

    def _reading(
        self, record: ModelRecord
    ) -> tuple[ModelRecord, Deployment | None, tuple[str, ...]]:
        known = self._read.get(record.model_id)
        if known is not None and known[0] is record:
            return known
        reader = ConfigReader("", self._environment)
        deployment = _deployment(reader, record, self._config)
        return record, deployment, reader.problem_texts


def _deployment(
    reader: ConfigReader, record: ModelRecord, config: GatewayConfig
) -> Deployment | None:
    info = {name: value for name, value in record.model_info.items() if name != "id"}
    entry = {
        "model_name": record.model_name,
        "litellm_params": record.litellm_params,
        "model_info": info,
    }
    defaults = DeploymentDefaults(
        timeout_s=config.request_timeout_s,
        stream_timeout_s=config.stream_timeout_s,
        max_parallel_requests=config.max_parallel_requests,
        insecure_http_hosts=config.settings.insecure_http_hosts,
    )
    deployment = read_deployment(reader, json_node(entry), "model", Counter(), defaults)
    if not LITELLM_PRICES.keys().isdisjoint({*record.litellm_params, *info}):
        reader.problem(
            0,
            "prices are not taken from a model that is added at run time: set them with "
            "POST /price/update, or in prices: of the file",
        )
    if deployment is None:
        return None
    return msgspec.structs.replace(
        deployment,
        deployment_id=record.model_id,
        forward_client_auth=is_forwarded(config.forward_models, record.model_name),
    )


def json_node(value: Any) -> Node:
    """Return plain JSON values as the file's reader wants them; they stand on no line."""
    if isinstance(value, Mapping):
        return Node(0, {name: json_node(item) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return Node(0, tuple(json_node(item) for item in value))
    return Node(0, value)
