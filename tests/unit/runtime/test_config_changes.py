"""What differs between two configurations is told by names, and never by values."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import RESTART_SETTINGS, Deployment, GatewayConfig, GlobalBudget, Settings
from services.runtime.config_changes import CHANGES_SHOWN_MAX, changed_keys, restart_needed

SECRET = "sk-ant-api03-secret"
OLD = GatewayConfig(
    path="a.yaml",
    deployments=(
        Deployment(deployment_id="opus/0", model_name="opus", model="o"),
        Deployment(deployment_id="gone", model_name="g", model="g"),
    ),
)


def test_every_kind_of_change_is_named_and_no_value_is_shown() -> None:
    # Given a configuration that differs in models, secrets, sections and settings, when the
    # changes are named, then each is there once, and no secret.
    new = GatewayConfig(
        path="b.yaml",
        deployments=(
            Deployment(
                deployment_id="opus/0", model_name="opus", model="o", api_key=SECRET, timeout_s=3
            ),
            Deployment(deployment_id="new", model_name="n", model="n"),
        ),
        master_key=SECRET,
        timezone="Europe/Berlin",
        budget=GlobalBudget(Decimal(5)),
        forward_models=("*",),
        request_timeout_s=5,
        settings=Settings(nats_url=f"nats://u:{SECRET}@h", budget_message="x"),
        notices=("a notice",),
    )

    changes = changed_keys(OLD, new)

    assert sorted(changes) == sorted(
        (
            "model_list: gone removed",
            "model_list: opus/0 changed (api_key, timeout_s)",
            "model_list: new added",
            "master_key",
            "litellm_settings.timezone",
            "litellm_settings.max_budget",
            "forward_client_headers_to_llm_api",
            "litellm_settings.request_timeout",
            "tallygate.nats_url",
            "tallygate.budget_message",
        )
    )
    assert not any("secret" in change for change in changes)
    assert restart_needed(OLD, new) == ("tallygate.nats_url",)


def test_the_same_configuration_has_no_changes_and_another_order_is_one() -> None:
    assert changed_keys(OLD, msgspec.structs.replace(OLD, path="elsewhere")) == ()
    turned = msgspec.structs.replace(OLD, deployments=OLD.deployments[::-1])
    assert changed_keys(OLD, turned) == ("model_list: other order",)


@given(st.integers(min_value=0, max_value=300))
def test_the_list_of_changes_is_bounded(count: int) -> None:
    # Given any number of new models, when they are named, then the list has its limit, and says
    # how many are left out.
    many = tuple(
        Deployment(deployment_id=f"m{number}", model_name="m", model="m") for number in range(count)
    )
    changes = changed_keys(GatewayConfig(path=""), GatewayConfig(path="", deployments=many))
    assert len(changes) <= CHANGES_SHOWN_MAX + 1
    if count > CHANGES_SHOWN_MAX:
        assert changes[-1] == f"… and {count - CHANGES_SHOWN_MAX} more"


@pytest.mark.parametrize("name", sorted(RESTART_SETTINGS))
def test_settings_that_wait_for_a_restart_are_settings(name: str) -> None:
    assert name in Settings.__struct_fields__
