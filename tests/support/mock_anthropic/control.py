"""The `/__mock__/` paths: scenarios are set here, and what happened is read here.

- `POST /__mock__/scenario`: a `ScenarioPlan`; `DELETE` goes back to the default, empty queue.
- `GET /__mock__/requests`: the records as a JSON array (bodies in base64); `?bodies=0` leaves the
  bodies out. `DELETE` forgets them.
- `GET /__mock__/stats`: the counters.
"""

import msgspec

from tests.support.mock_anthropic.records import Book
from tests.support.mock_anthropic.replies import plain_reply
from tests.support.mock_anthropic.scenario import decode_plan

__all__ = ["CONTROL_PREFIX", "answer_control"]

CONTROL_PREFIX = "/__mock__/"


def answer_control(book: Book, method: str, target: str, body: bytes) -> bytes:
    """Do what a control request asks for and return the whole answer."""
    path, _, query = target.removeprefix(CONTROL_PREFIX).partition("?")
    status, answer = 200, b"{}"
    match method, path:
        case "POST", "scenario":
            try:
                book.set_plan(decode_plan(body))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                status, answer = 400, msgspec.json.encode({"error": str(error)})
        case "DELETE", "scenario":
            book.forget_plan()
        case "GET", "requests":
            records = book.records()
            if query == "bodies=0":
                records = [msgspec.structs.replace(record, body=b"") for record in records]
            answer = msgspec.json.encode(records)
        case "DELETE", "requests":
            book.forget_records()
        case "GET", "stats":
            answer = msgspec.json.encode(book.stats)
        case _:
            status, answer = 404, b'{"error":"no such control path"}'
    return plain_reply(status, {}, answer)
