"""HTTP to a running gateway: one call, one answer, errors in words."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from schemas.errors import TallygateError
from services.client.trust import certificate_problem, tls_context

__all__ = [
    "EXIT_REFUSED",
    "EXIT_UNAUTHENTICATED",
    "EXIT_UNAVAILABLE",
    "ClientError",
    "Gateway",
]

EXIT_REFUSED = 1
"""The gateway refused the request: what was asked for is wrong."""
EXIT_UNAVAILABLE = 69
"""sysexits' EX_UNAVAILABLE: the gateway cannot be reached, or cannot do this now."""
EXIT_UNAUTHENTICATED = 77
"""sysexits' EX_NOPERM: there is no key, the gateway does not know it, or it may not do this."""

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""A longer answer is not read: it is not this gateway's."""

_SERVER_ERROR = 500


class ClientError(TallygateError):
    """A command cannot go on; the message says why, `exit_code` says it to scripts."""

    def __init__(self, message: str, exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _Detail(msgspec.Struct):
    message: str


class _Error(msgspec.Struct):
    error: _Detail
    request_id: str | None = None


class Gateway:
    """A connection to one gateway. Use it as a context manager.

    Redirects are not followed and the environment's HTTP proxies are not used: the key goes
    to the given URL and nowhere else.
    """

    def __init__(self, url: str, key: str, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ClientError(f"{url!r} is no URL of a gateway: http://127.0.0.1:4000 is one")
        self.url = url.rstrip("/")
        self.is_in_the_clear = parts.scheme == "http" and not _is_loopback(parts.hostname)
        self._http = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}", "accept": "application/json"},
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            follow_redirects=False,
            trust_env=False,
            # Reading all certificates takes longer than a question; http needs none of them.
            verify=_trusting(ca_file) if parts.scheme == "https" else False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int) -> bytes:
        """Return the answer to a GET. Raises ClientError."""
        return self.get_for(path, **query)[0]

    def get_for(self, path: str, **query: str | int) -> tuple[bytes, httpx.Headers]:
        """Return the answer to a GET, and its headers. Raises ClientError."""
        return self._call("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        """Return the answer to a POST of JSON. Raises ClientError."""
        return self.post_for(path, body)[0]

    def post_for(self, path: str, body: dict[str, Any]) -> tuple[bytes, httpx.Headers]:
        """Return the answer to a POST of JSON, and its headers. Raises ClientError."""
        content = msgspec.json.encode(body)
        return self._call(
            "POST", path, content=content, headers={"content-type": "application/json"}
        )

    @contextmanager
    def streamed_post(
        self, path: str, body: dict[str, Any]
    ) -> Iterator[tuple[httpx.Headers, Iterator[bytes]]]:
        """Give the headers and, as they come, the bytes of the answer to a POST of JSON.

        Raises ClientError, also where the answer breaks off.
        """
        content = msgspec.json.encode(body)
        headers = {"content-type": "application/json"}
        with self._streamed("POST", path, content=content, headers=headers) as answer:
            yield answer

    @contextmanager
    def streamed_get(
        self, path: str, query: dict[str, str | int]
    ) -> Iterator[tuple[httpx.Headers, Iterator[bytes]]]:
        """Give the headers and, as they come, the bytes of the answer to a GET.

        Raises ClientError, also where the answer breaks off.
        """
        with self._streamed("GET", path, params=query) as answer:
            yield answer

    @contextmanager
    def _streamed(
        self, method: str, path: str, **request: Any
    ) -> Iterator[tuple[httpx.Headers, Iterator[bytes]]]:
        with self._reachable(), self._http.stream(method, path, **request) as response:
            if response.status_code != httpx.codes.OK:
                raise _refusal(response.status_code, _read(response), self.url)
            yield response.headers, response.iter_bytes()

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Make errors of the connection ours while the body runs."""
        try:
            yield
        except httpx.RemoteProtocolError as error:
            raise ClientError(
                f"the answer broke off ({error}): what has come of it is not all. Ask again, or "
                "for less",
                EXIT_UNAVAILABLE,
            ) from None
        except httpx.HTTPError as error:
            problem = certificate_problem(error)
            if problem is not None:
                raise ClientError(
                    f"the certificate of {self.url} is not to be trusted ({problem}). Where it is "
                    "of your company's own CA, name that one's file: `tallygate login --ca-file`, "
                    "or $SSL_CERT_FILE",
                    EXIT_UNAVAILABLE,
                ) from None
            raise ClientError(
                f"no gateway answers at {self.url} ({type(error).__name__}): start it with "
                "`tallygate serve`, or name another one with --url",
                EXIT_UNAVAILABLE,
            ) from None

    def _call(self, method: str, path: str, **request: Any) -> tuple[bytes, httpx.Headers]:
        with self._reachable(), self._http.stream(method, path, **request) as response:
            content = _read(response)
        if response.status_code != httpx.codes.OK:
            raise _refusal(response.status_code, content, self.url)
        return content, response.headers


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return tls_context(ca_file)
    except OSError as error:
        reason = (
            "no certificates in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        )
        raise ClientError(f"certificates cannot be read from {ca_file}: {reason}") from None


def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > ANSWER_BYTES_MAX:
            raise ClientError(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(content)


def _refusal(status: int, content: bytes, url: str) -> ClientError:
    """Return a gateway's error as ours."""
    exit_code = EXIT_REFUSED
    if status in {401, 403}:
        exit_code = EXIT_UNAUTHENTICATED
    elif status >= _SERVER_ERROR or status == httpx.codes.TOO_MANY_REQUESTS:
        exit_code = EXIT_UNAVAILABLE
    try:
        error = msgspec.json.decode(content, type=_Error)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ClientError(f"{url} answered {status}, not as tallygate does", exit_code)
    return ClientError(error.error.message, exit_code)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
