"""Models of the registry are read by the rules of the file, and one that fails harms no other."""

from typing import Any

import pytest

from schemas.config import Deployment, GatewayConfig, Settings
from schemas.registry import ModelRecord
from services.runtime import config_models, registry_models
from services.runtime.registry_models import RegistryModels

ENVIRONMENT = {"TEAM_API_KEY": "sk-ant-api03-of-the-team"}
CONFIG = GatewayConfig(
    path="config.yaml",
    deployments=(Deployment(deployment_id="opus/0", model_name="opus", model="claude-opus-4-5"),),
    forward_models=("sonnet-*",),
    request_timeout_s=33.0,
    settings=Settings(insecure_http_hosts=("mock",)),
)


def record(model_id: str = "m1", name: str = "opus", **params: Any) -> ModelRecord:
    given = {"model": "anthropic/claude-opus-4-5", **params}
    return ModelRecord(model_id=model_id, model_name=name, litellm_params=given)


def test_model_of_the_registry_is_what_the_same_entry_of_the_file_would_be() -> None:
    # Given a model with a reference to a variable, an address and a time-out, when it is read,
    # then it is the deployment that model_list would make, under the model's own id.
    models = (
        record(api_key="os.environ/TEAM_API_KEY", api_base="http://mock/v1/", timeout=5),
        record("m2", "sonnet-x"),
    )

    deployments, unusable = RegistryModels(CONFIG, ENVIRONMENT).deployments(models)

    assert unusable == ()
    assert deployments == (
        Deployment(
            deployment_id="m1",
            model_name="opus",
            model="claude-opus-4-5",
            api_key="sk-ant-api03-of-the-team",
            api_base="http://mock",
            timeout_s=5.0,
        ),
        Deployment(
            deployment_id="m2",
            model_name="sonnet-x",
            model="claude-opus-4-5",
            timeout_s=33.0,
            forward_client_auth=True,
        ),
    )


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record("bad", api_key="os.environ/OTHER_API_KEY"), "variable OTHER_API_KEY is not set"),
        (record("bad", api_base="http://example.com"), "litellm_params.api_base must be https://"),
        (record("bad", model="openai/gpt"), "litellm_params.model must be anthropic/<model>"),
        (record("bad", tiemout=3), "litellm_params.tiemout is not known: did you mean timeout"),
        (record("bad", timeout="long"), "litellm_params.timeout must be a number"),
        (record("bad", " "), "model_name must be"),
        (record("opus/0".replace("/", ":")), None),
        (ModelRecord(model_id="bad", model_name="x", litellm_params={}), "model is missing"),
    ],
)
def test_model_that_cannot_be_served_is_named_with_its_reason(
    bad: ModelRecord, reason: str | None
) -> None:
    # Given one model that cannot be read among others, when all are read, then it alone is left
    # out, and the reason says what to correct and holds no value.
    deployments, unusable = RegistryModels(CONFIG, ENVIRONMENT).deployments((record(), bad))

    if reason is None:
        assert [each.deployment_id for each in deployments] == ["m1", "opus:0"]
        return
    assert [each.deployment_id for each in deployments] == ["m1"]
    assert [(each.model_id, each.model_name) for each in unusable] == [("bad", bad.model_name)]
    assert reason in unusable[0].reason
    assert "example.com" not in unusable[0].reason


def test_file_comes_first_and_the_number_of_models_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = GatewayConfig(
        path="c", deployments=(Deployment(deployment_id="m1", model_name="a", model="a"),)
    )
    deployments, unusable = RegistryModels(named, {}).deployments((record("m1"), record("m2")))
    assert [each.deployment_id for each in deployments] == ["m2"]
    assert "configuration file" in unusable[0].reason

    assert registry_models.DEPLOYMENTS_MAX == config_models.DEPLOYMENTS_MAX
    monkeypatch.setattr(registry_models, "DEPLOYMENTS_MAX", 3)
    many = tuple(record(f"m{number}") for number in range(4))
    deployments, unusable = RegistryModels(CONFIG, {}).deployments(many)
    assert len(deployments) == 2
    assert [each.model_id for each in unusable] == ["m2", "m3"]


def test_only_a_changed_model_is_read_anew_and_gives_what_reading_all_would() -> None:
    # Given models that were read, when one of them changes, comes or goes, then the deployments
    # are those of a fresh reading, and the others are the very same objects.
    models = RegistryModels(CONFIG, ENVIRONMENT)
    first = (record("m1", "a"), record("m2", "b", api_key="os.environ/OTHER_API_KEY"))
    before, _ = models.deployments(first)
    second = (first[0], record("m2", "b", api_key="os.environ/TEAM_API_KEY"), record("m3", "c"))
    after, unusable = models.deployments(second)
    assert after[0] is before[0]
    assert [each.deployment_id for each in after] == ["m1", "m2", "m3"]
    assert unusable == ()
    for given in (second[1:], first, ()):
        assert models.deployments(given) == RegistryModels(CONFIG, ENVIRONMENT).deployments(given)
