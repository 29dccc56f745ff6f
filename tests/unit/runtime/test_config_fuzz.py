"""Whatever the file holds, reading it gives a configuration or a ConfigError, nothing else."""

import contextlib
import string
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.config import GatewayConfig
from schemas.errors import ConfigError
from services.runtime.config import read_config
from services.runtime.config_keys import SECTIONS

NAMES = sorted({name for keys in SECTIONS.values() for name in keys.names()} | {"", "<<", "x"})
TEXTS = st.one_of(
    st.sampled_from(
        ["anthropic/*", "anthropic/m", "*", "os.environ/SET", "os.environ/UNSET", "https://h", "m"]
    ),
    st.text(max_size=12),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=6)), inner, max_size=5),
    ),
    max_leaves=20,
)


def holds(content: bytes) -> None:
    """Read the bytes; a result must be usable, and an error must not be a traceback."""
    with contextlib.suppress(ConfigError):
        config = read_config(content, "c", {"SET": "anthropic/x", "LITELLM_MASTER_KEY": "k"})
        assert isinstance(config, GatewayConfig)
        assert len({one.deployment_id for one in config.deployments}) == len(config.deployments)
        assert repr(config)


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.sampled_from(NAMES), TREES, max_size=6))
def test_any_tree_is_read_or_refused(tree: dict[str, Any]) -> None:
    # Given random values under known and unknown keys, then no other exception comes.
    holds(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(deadline=None)  # the machine may be busy
@given(
    model_list=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "model_name": TEXTS,
                "litellm_params": st.dictionaries(
                    st.sampled_from(SECTIONS["litellm_params"].names()), SCALARS, max_size=4
                ),
                "model_info": TREES,
            },
        ),
        max_size=4,
    ),
    sections=st.fixed_dictionaries(
        {},
        optional={
            name: st.dictionaries(st.sampled_from(SECTIONS[name].read), TREES, max_size=4)
            for name in (
                "general_settings",
                "litellm_settings",
                "model_group_settings",
                "router_settings",
                "tallygate",
            )
        },
    ),
)
def test_any_values_of_known_keys_are_read_or_refused(
    model_list: list[Any], sections: dict[str, Any]
) -> None:
    # Given the right shape with random values in it, then no other exception comes.
    holds(yaml.safe_dump({"model_list": model_list, **sections}).encode())


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=300))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbfmodel_list: []")
@example(b"a: \x00")
@example(b"a: !!python/object:os.system x")
@example(b"a: !!int x")
@example(b"a: !!float x")
@example(b"a: !!bool x")
@example(b"a: !!timestamp 2001-99-99")
@example(b"a: 0b_")
@example(b"a: " + b"9" * 10_000)
@example(b"a: 1" + b":59" * 400 + b".5")
@example(b"? [a]\n: b")
@example(b"1: b")
@example(b"--- a\n--- b")
@example(b"<<: a")
@example(b"a: &a [*a]")
@example(b"a: &a {<<: *a}")
@example(b"a: *b")
@example(b"%YAML 9.9\n---\na")
@example(b"[" * 5000)
@example(b"- " * 5000)
@example(b"{a: " * 5000)
@example(b"? " * 5000)
@example(b"!" * 5000)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    # Given any bytes, then no other exception comes.
    holds(content)


@settings(deadline=None)  # the machine may be busy
@given(st.text(alphabet=string.ascii_letters[:4] + "-:{}[]*&!<>|\"'#%@,? \n\t", max_size=200))
def test_any_text_that_looks_like_yaml_is_read_or_refused(text: str) -> None:
    # Given soup of YAML's own marks, then no other exception comes.
    holds(text.encode())
