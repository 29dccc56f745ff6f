"""A fault's line in the log names the route, and never what stands in the path."""

from typing import Any

import pytest
from litestar import Request

from services.admin.errors import answer_error


def test_fault_on_a_route_with_a_key_in_its_path_logs_the_template(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a request with a key in its path, when a fault ends it, then the log has no key.
    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": "/key/sk-canary-0123456789/regenerate",
        "path_template": "/key/{key}/regenerate",
        "headers": [],
        "state": {"request_id": "tg_1"},
    }
    answer = answer_error(Request(scope), RuntimeError("boom"))
    assert answer.status_code == 500
    (line,) = caplog.records
    assert vars(line)["route"] == "/key/{key}/regenerate"
    assert "sk-canary" not in str(vars(line))
