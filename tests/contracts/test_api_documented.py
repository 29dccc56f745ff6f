"""docs/api.md lists every path of the API that the proxy serves, and its limits."""

import re
from pathlib import Path

from services.proxy.accounts import ACCOUNTS_ASKED_MAX, LOCATED_MAX
from services.proxy.admission import BODY_TIMEOUTS_MAX
from services.proxy.batch_body import BATCH_REQUESTS_MAX
from services.proxy.model_pages import LIMIT_DEFAULT, LIMIT_MAX
from services.proxy.paths import API_PATHS, PASS_THROUGH_METHODS, PATH_BYTES_MAX
from services.proxy.relay import REWRITTEN_BYTES_MAX
from services.proxy.upload import UPLOAD_BYTES_PER_S_MIN

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text("utf-8")


def test_the_table_has_each_path_with_its_methods_and_endpoint_and_no_other() -> None:
    # Given the paths that are served, when the page's table is read, then it has exactly these.
    rows = re.findall(r"^\| `(/v1/[^`…]*)` \| ([A-Z, ]+) \| (.*?) \|", PAGE, flags=re.MULTILINE)
    assert [(path, methods) for path, methods, _ in rows] == [
        (each.template, ", ".join(each.methods)) for each in API_PATHS
    ]
    for (_, _, recorded), each in zip(rows, API_PATHS, strict=True):
        assert recorded.startswith(f"`{each.endpoint}`" if each.endpoint else "not:")
    assert f"| {', '.join(PASS_THROUGH_METHODS)} | `pass_through` |" in PAGE


def test_the_limits_are_those_of_the_code() -> None:
    # Given the limits in the code, then the page names each.
    text = re.sub(r"\s+", " ", PAGE)
    assert f"At most {PATH_BYTES_MAX} bytes" in text
    assert f"{ACCOUNTS_ASKED_MAX} at most" in text
    assert f"a second for each {UPLOAD_BYTES_PER_S_MIN // 1024} KiB" in text
    assert BODY_TIMEOUTS_MAX == 10, "ten times"
    assert f"remembered for {LOCATED_MAX:,} ids" in text
    assert f"At most {BATCH_REQUESTS_MAX:,} requests" in text
    assert f"up to {REWRITTEN_BYTES_MAX // 1024**2} MiB" in text
    assert f"`limit` (1 to {LIMIT_MAX}, by default {LIMIT_DEFAULT})" in text
