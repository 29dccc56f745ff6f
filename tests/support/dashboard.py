"""A browser's part of the dashboard over HTTP: the cookie, the token of its forms, its pages."""

import html
import json
import re
from typing import Any

import httpx

__all__ = ["COOKIE", "LoggedIn", "log_in"]

COOKIE = "tallygate_session"
TIMEOUT_S = 30


class LoggedIn:
    """One who is logged in: `get` opens pages, `post` sends forms as htmx does."""

    def __init__(self, url: str, cookie: str) -> None:
        self.url = url
        self.cookie = cookie
        page = self.get("/ui")
        headers = re.search(r"hx-headers='([^']+)'", page.text)
        assert headers is not None, page.text
        self.token_headers: dict[str, str] = json.loads(html.unescape(headers[1]))

    def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request with the session's cookie and nothing else."""
        headers = {"cookie": f"{COOKIE}={self.cookie}", **arguments.pop("headers", {})}
        url = self.url + path
        return httpx.request(method, url, headers=headers, timeout=TIMEOUT_S, **arguments)

    def get(self, path: str, **query: str) -> httpx.Response:
        """Open a page."""
        return self.send("GET", path, params=query or None)

    def part(self, path: str, **query: str) -> httpx.Response:
        """Fetch a part of a page, as htmx does."""
        return self.send("GET", path, params=query or None, headers={"hx-request": "true"})

    def post(self, path: str, **fields: str) -> httpx.Response:
        """Send a form, as htmx does."""
        headers = {"hx-request": "true", "sec-fetch-site": "same-origin", **self.token_headers}
        return self.send("POST", path, data=fields, headers=headers)


def log_in(url: str, key: str) -> LoggedIn:
    """Log in with a key and return the session."""
    answer = httpx.post(f"{url}/ui/login", data={"key": key}, timeout=TIMEOUT_S)
    assert answer.status_code == 303, answer.text
    return LoggedIn(url, answer.cookies[COOKIE])
