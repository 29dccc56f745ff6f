"""What is printed when the gateway is ready."""

from pathlib import Path

import pytest

from schemas.config import Deployment, GatewayConfig
from services.commands.banner import banner, base_url
from services.runtime.folder import DataFolder


def deployment(name: str) -> Deployment:
    return Deployment(deployment_id=name, model_name=name, model=name)


def text(tmp_path: Path, config: GatewayConfig, environment: dict[str, str] | None = None) -> str:
    return banner(
        config,
        DataFolder(tmp_path),
        "http://127.0.0.1:4000",
        environment=environment or {},
        ready_after_s=0.94,
    )


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:4000"),
        ("0.0.0.0", "http://localhost:4000"),
        ("::", "http://localhost:4000"),
        ("::1", "http://[::1]:4000"),
        ("gateway.example", "http://gateway.example:4000"),
    ],
)
def test_the_url_is_one_that_a_client_can_use(host: str, url: str) -> None:
    assert base_url(host, 4000) == url


def test_the_first_plain_model_name_is_shown_and_none_where_all_are_patterns(
    tmp_path: Path,
) -> None:
    # Given names with and without a star, then only one without can stand in ANTHROPIC_MODEL.
    names = (deployment("claude-*"), deployment("my model"), deployment("other"))
    assert "export ANTHROPIC_MODEL='my model'\n" in text(
        tmp_path, GatewayConfig(path="c", deployments=names)
    )
    patterns = GatewayConfig(path="c", deployments=(deployment("*"),))
    assert "ANTHROPIC_MODEL" not in text(tmp_path, patterns)


def test_the_master_key_is_never_shown_wherever_it_is(tmp_path: Path) -> None:
    # Given a key made into the folder, given in the environment, or written in the file, then its
    # place is named, and the key is not.
    folder = DataFolder(tmp_path)
    made = folder.master_key()
    generated = text(tmp_path, GatewayConfig(path="c"))
    assert str(folder.master_key_file) in generated
    assert "tallygate claude-code --write" in generated
    given = GatewayConfig(path="/etc/c.yaml", master_key="sk-given-to-the-gateway")
    variable = text(tmp_path, given, {"LITELLM_MASTER_KEY": "sk-given-to-the-gateway"})
    assert '"Authorization: Bearer $LITELLM_MASTER_KEY"' in variable
    in_file = text(tmp_path, given, {"LITELLM_MASTER_KEY": "sk-another"})
    assert "as /etc/c.yaml says" in in_file
    for shown in (generated, variable, in_file):
        assert made not in shown
        assert "sk-given" not in shown
