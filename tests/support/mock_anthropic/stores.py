"""Message batches and files: what the mock keeps, as the API does, in the account of a credential.

A batch has ended when it is first looked at. Its results come in chunks of some lines; a request's
`x-mock-pace-ms` sets a pause between them. A request of a batch whose `custom_id` begins with
`errored-`, `expired-` or `canceled-` has that result; all others succeed, with their own figures.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.support.mock_anthropic.messages import Ids
from tests.support.mock_anthropic.replies import Pause, Send, Step, plain_reply

__all__ = ["LINES_PER_CHUNK", "Answer", "Stores"]

LINES_PER_CHUNK = 20
BATCH_REQUESTS_MAX = 100_000
_CREATED = "2026-11-25T00:00:00Z"
_UNPAID = ("errored", "expired", "canceled")
_json = msgspec.json.Encoder()


class Answer(Exception):
    """An error of the API: status, type and message."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


class _Request(msgspec.Struct):
    custom_id: str
    params: dict[str, Any]


class _NewBatch(msgspec.Struct):
    requests: list[_Request]


def result_usage(index: int) -> dict[str, Any]:
    """Return the usage of the result at a place in its batch."""
    return {
        "input_tokens": 1001 + index,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 7 * (index % 13),
        "output_tokens": 101 + index % 17,
        "service_tier": "batch",
    }


class Stores:
    """All batches and files, by account and id."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._batches: dict[str, dict[str, tuple[dict[str, Any], list[_Request]]]] = {}
        self._files: dict[str, dict[str, tuple[dict[str, Any], bytes]]] = {}

    # -------------------------------------------------------------------------- batches

    def batches(
        self, method: str, path: str, *, account: str, body: bytes, host: str, pace_ms: float
    ) -> tuple[dict[str, Any] | None, Iterator[Step]]:
        """Return what to answer: a JSON object, or steps where it is None. Raises Answer."""
        kept = self._batches.setdefault(account, {})
        match method, path.split("/")[4:]:
            case "POST", []:
                return self._create(kept, body), iter(())
            case "GET", []:
                return _page([batch for batch, _ in kept.values()]), iter(())
            case "GET", [batch_id]:
                return self._ended(_of(kept, batch_id)[0], host), iter(())
            case "POST", [batch_id, "cancel"]:
                batch, _ = _of(kept, batch_id)
                batch["processing_status"] = "canceling"
                return batch, iter(())
            case "DELETE", [batch_id]:
                _of(kept, batch_id)
                del kept[batch_id]
                return {"id": batch_id, "type": "message_batch_deleted"}, iter(())
            case "GET", [batch_id, "results"]:
                _, requests = _of(kept, batch_id)
                return None, _result_steps(requests, batch_id, pace_ms)
        raise Answer(404, "not_found_error", "Not found")

    def _create(self, kept: dict[str, Any], body: bytes) -> dict[str, Any]:
        try:
            new = msgspec.json.decode(body, type=_NewBatch)
        except msgspec.DecodeError as error:
            raise Answer(400, "invalid_request_error", str(error)) from None
        if len({request.custom_id for request in new.requests}) != len(new.requests):
            raise Answer(400, "invalid_request_error", "custom_id: must be unique")
        batch_id = self._ids.new("msgbatch")
        counts = dict.fromkeys(("processing", "succeeded", *_UNPAID), 0)
        batch = {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "in_progress",
            "request_counts": counts | {"processing": len(new.requests)},
            "created_at": _CREATED,
            "expires_at": _CREATED,
            "ended_at": None,
            "cancel_initiated_at": None,
            "archived_at": None,
            "results_url": None,
        }
        kept[batch_id] = (batch, new.requests)
        return batch

    def _ended(self, batch: dict[str, Any], host: str) -> dict[str, Any]:
        batch["processing_status"] = "ended"
        batch["ended_at"] = _CREATED
        batch["results_url"] = f"http://{host}/v1/messages/batches/{batch['id']}/results"
        return batch

    # ---------------------------------------------------------------------------- files

    def files(
        self, method: str, path: str, *, account: str, body: bytes, content_type: str
    ) -> tuple[dict[str, Any] | None, bytes]:
        """Return what to answer: a JSON object, or bytes where it is None. Raises Answer."""
        kept = self._files.setdefault(account, {})
        match method, path.split("/")[3:]:
            case "POST", []:
                filename, content = _multipart(content_type, body)
                meta = {
                    "id": self._ids.new("file"),
                    "type": "file",
                    "filename": filename,
                    "mime_type": "application/octet-stream",
                    "size_bytes": len(content),
                    "created_at": _CREATED,
                    "downloadable": True,
                }
                kept[str(meta["id"])] = (meta, content)
                return meta, b""
            case "GET", []:
                return _page([meta for meta, _ in kept.values()]), b""
            case "GET", [file_id]:
                return _of(kept, file_id)[0], b""
            case "GET", [file_id, "content"]:
                return None, _of(kept, file_id)[1]
            case "DELETE", [file_id]:
                _of(kept, file_id)
                del kept[file_id]
                return {"id": file_id, "type": "file_deleted"}, b""
        raise Answer(404, "not_found_error", "Not found")


def _of(kept: dict[str, Any], item_id: str) -> Any:
    if item_id not in kept:
        raise Answer(404, "not_found_error", f"{item_id} not found")
    return kept[item_id]


def _page(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "data": items,
        "has_more": False,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
    }


def _multipart(content_type: str, body: bytes) -> tuple[str, bytes]:
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    for part in body.split(b"--" + boundary):
        head, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="file"; filename="([^"]*)"', head)
        if name is not None:
            return name[1].decode(), content.removesuffix(b"\r\n")
    raise Answer(400, "invalid_request_error", "file: field required")


def _result_line(index: int, request: _Request, batch_id: str) -> bytes:
    kind = request.custom_id.partition("-")[0]
    result: dict[str, Any] = {"type": kind if kind in _UNPAID else "succeeded"}
    if kind == "errored":
        error = {"type": "invalid_request_error", "message": "no"}
        result["error"] = {"type": "error", "error": error}
    elif kind not in _UNPAID:
        result["message"] = {
            "id": f"msg_{batch_id}_{index}",
            "type": "message",
            "role": "assistant",
            "model": request.params["model"],
            "content": [{"type": "text", "text": "Hi from the mock. " * 8}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": result_usage(index),
        }
    return _json.encode({"custom_id": request.custom_id, "result": result}) + b"\n"


def _result_steps(requests: list[_Request], batch_id: str, pace_ms: float) -> Iterator[Step]:
    head = plain_reply(200, {"content-type": "application/x-jsonl"}, b"")
    head = head.replace(b"content-length: 0", b"transfer-encoding: chunked")
    yield Send(head)
    for start in range(0, len(requests), LINES_PER_CHUNK):
        some = enumerate(requests[start : start + LINES_PER_CHUNK], start)
        lines = b"".join(_result_line(index, request, batch_id) for index, request in some)
        yield Send(b"%x\r\n%b\r\n" % (len(lines), lines))
        if pace_ms:
            yield Pause(pace_ms / 1000)
    yield Send(b"0\r\n\r\n")
