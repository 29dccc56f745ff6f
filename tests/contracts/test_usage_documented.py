"""docs/usage.md and docs/claude-code.md say what the code does."""

import inspect
import re
from pathlib import Path
from typing import get_args

import schemas.errors
from schemas.config import Settings
from schemas.errors import ApiError
from schemas.usage import TOKENS_MAX
from services.proxy import batch_results, exchange, meter, outbox, passing
from services.proxy.limits import RETRY_AFTER_S
from services.proxy.metering import Unpacker
from services.proxy.upstream import FaultKind

DOCS = Path(__file__).resolve().parents[2] / "docs"
USAGE = (DOCS / "usage.md").read_text()
CLAUDE_CODE = (DOCS / "claude-code.md").read_text()


def test_every_basis_of_an_estimate_is_described() -> None:
    source = "".join(inspect.getsource(module) for module in (exchange, meter, outbox, passing))
    texts = set(re.findall(r'"((?:the|a|impossible) [a-z][^"]{20,})"', source))
    bases = {text for text in texts if "gateway" not in text and "outbox" not in text}

    assert len(bases) >= 8
    assert {text for text in bases if f"`{text}`" not in USAGE} == set()


def test_every_error_type_of_a_failure_is_described() -> None:
    modules = (exchange, outbox, batch_results)
    source = "".join(inspect.getsource(module) for module in modules)
    types = set(re.findall(r'error_type ?= ?"(\w+)"', source)) - {"gateway_fault"}

    assert {name for name in types if f"`{name}`" not in USAGE} == set()


def test_every_fault_of_a_deployment_is_described() -> None:
    # Given the names under which faults are booked, then each is in a table, and no other is.
    kinds = set(get_args(FaultKind))
    assert {kind for kind in kinds if f"`{kind}`" not in USAGE} == set()
    named = set(re.findall(r"`(upstream_[a-z_]+)`", USAGE))
    assert named - kinds - set(Settings.__struct_fields__) == set()


def test_limits_of_the_meter_are_described() -> None:
    assert f"{TOKENS_MAX:,}" in USAGE
    assert f"at most {meter.ITERATIONS_MAX}" in USAGE
    assert f"longer than {meter.LINE_BYTES_MAX // 1024**2} MiB" in USAGE
    assert f"{Unpacker.PIECE_BYTES_MAX // 1024} KiB at a time" in USAGE
    assert f"more than {Unpacker.RATIO_MAX} times" in re.sub(r"\s+", " ", USAGE)


def test_every_refusal_has_its_row() -> None:
    """409 is the management API's; 429 rate_limit_error is not sent yet."""
    leaves = [
        error
        for error in vars(schemas.errors).values()
        if isinstance(error, type) and issubclass(error, ApiError) and error is not ApiError
    ]
    for error in leaves:
        if error.__name__ not in {"Conflict", "RateLimited"}:
            assert f"{error.http_status} `{error.error_type}`" in CLAUDE_CODE, error
    assert f"{RETRY_AFTER_S} for a budget without one" in CLAUDE_CODE
