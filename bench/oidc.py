"""A small OpenID Connect issuer, and the device sign-in that a person would do in a browser.

Its one user is signed in at once. It has discovery, keys, the authorization code flow with
PKCE (S256), and refresh; a code is good for one use.
"""

import base64
import hashlib
import html
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

__all__ = ["USER", "Issuer", "issuer", "sign_in"]

USER = {"sub": "user-bench", "email": "bench@corp.example", "name": "Bench", "groups": ["eng"]}
CLIENT_ID, CLIENT_SECRET = "bench-client", "bench-secret-0123456789"
KEY_ID = "bench"
ID_TOKEN_S = 3_600
BODY_BYTES_MAX = 64 * 1024
REDIRECTS_MAX = 10
POLLS_MAX = 20

_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_FORM = re.compile(r"<form\b([^>]*)>(.*?)</form>", re.DOTALL | re.IGNORECASE)
_INPUT = re.compile(r"<input\b([^>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"', re.IGNORECASE)


def _unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _unpadded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Issuer:
    """What the issuer knows: its key, and the codes that are not used yet."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._codes: dict[str, dict[str, str]] = {}

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }

    def keys(self) -> dict[str, Any]:
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID}
        return {"keys": [key | {"n": _number(numbers.n), "e": _number(numbers.e)}]}

    def authorize(self, asked: dict[str, str]) -> str:
        """Return where the browser is sent, with a code. Raises ValueError."""
        if asked.get("client_id") != CLIENT_ID or asked.get("code_challenge_method") != "S256":
            raise ValueError("client_id or code_challenge_method is not as agreed")
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        back = urlencode({"code": code, "state": asked.get("state", "")})
        return f"{asked['redirect_uri']}?{back}"

    def token(self, asked: dict[str, str]) -> dict[str, Any]:
        """Return the tokens for a code or a refresh token. Raises ValueError."""
        nonce: dict[str, str] = {}
        if asked.get("grant_type") == "authorization_code":
            given = self._codes.pop(asked.get("code", ""), None)
            if given is None or given.get("redirect_uri") != asked.get("redirect_uri"):
                raise ValueError("the code is not known here, or was for another address")
            digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
            if _unpadded(digest) != given.get("code_challenge"):
                raise ValueError("the code_verifier does not fit the code_challenge")
            nonce = {"nonce": given["nonce"]} if "nonce" in given else {}
        elif asked.get("grant_type") != "refresh_token":
            raise ValueError("this grant_type is not known here")
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + ID_TOKEN_S}
        return {
            "access_token": secrets.token_urlsafe(16),
            "token_type": "Bearer",
            "expires_in": ID_TOKEN_S,
            "refresh_token": secrets.token_urlsafe(16),
            "id_token": self._signed(USER | claims | nonce),
        }

    def _signed(self, claims: dict[str, Any]) -> str:
        head = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        parts = [_unpadded(json.dumps(part).encode()) for part in (head, claims)]
        signature = self._key.sign(".".join(parts).encode(), padding.PKCS1v15(), SHA256())
        return ".".join([*parts, _unpadded(signature)])


def _handler(known: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if address.path == "/.well-known/openid-configuration":
                self._answer(200, known.discovery())
            elif address.path == "/keys":
                self._answer(200, known.keys())
            elif address.path == "/authorize":
                try:
                    self._answer(302, {}, location=known.authorize(_fields(address.query)))
                except ValueError as fault:
                    self._answer(400, {"error": "invalid_request", "error_description": str(fault)})
            else:
                self._answer(404, {"error": "not_found"})

        def do_POST(self) -> None:
            length = min(int(self.headers.get("content-length") or 0), BODY_BYTES_MAX)
            asked = _fields(self.rfile.read(length).decode())
            if urlsplit(self.path).path != "/token":
                self._answer(404, {"error": "not_found"})
            elif not self._is_client(asked):
                self._answer(401, {"error": "invalid_client"})
            else:
                try:
                    self._answer(200, known.token(asked))
                except ValueError as fault:
                    self._answer(400, {"error": "invalid_grant", "error_description": str(fault)})

        def _is_client(self, asked: dict[str, str]) -> bool:
            pair = f"{CLIENT_ID}:{CLIENT_SECRET}".encode()
            basic = f"Basic {base64.b64encode(pair).decode()}"
            posted = (asked.get("client_id"), asked.get("client_secret"))
            given = self.headers.get("authorization")
            return given == basic or posted == (CLIENT_ID, CLIENT_SECRET)

        def _answer(self, status: int, fields: dict[str, Any], location: str = "") -> None:
            body = json.dumps(fields).encode()
            self.send_response(status)
            if location:
                self.send_header("location", location)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: what matters is in the answers."""

    return Handler


def _fields(encoded: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(encoded).items()}


@contextmanager
def issuer() -> Iterator[Issuer]:
    """Run an issuer on a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        known = Issuer(f"http://127.0.0.1:{server.server_address[1]}")
        server.RequestHandlerClass = _handler(known)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()


def _form(page: httpx.Response) -> tuple[str, dict[str, str]]:
    """Return where a page's only form is sent, and its fields as they are filled in."""
    forms = _FORM.findall(page.text)
    if len(forms) != 1:
        raise RuntimeError(f"{page.url.path} has {len(forms)} forms: {page.text[:300]!r}")
    attributes, inside = forms[0]
    action = html.unescape(dict(_ATTRIBUTE.findall(attributes)).get("action", ""))
    inputs = [dict(_ATTRIBUTE.findall(each)) for each in _INPUT.findall(inside)]
    filled = {
        each["name"]: html.unescape(each.get("value", "")) for each in inputs if "name" in each
    }
    return urljoin(str(page.url), action), filled


def sign_in(gateway_url: str) -> str:
    """Sign in at a gateway by the device flow; return the bearer token.

    Raises RuntimeError where a step is not answered as it should be.
    """
    with httpx.Client(
        timeout=30.0, trust_env=False, follow_redirects=True, max_redirects=REDIRECTS_MAX
    ) as browser:
        asked = browser.post(
            f"{gateway_url}/oauth/device_authorization", data={"client_id": "claude-code"}
        )
        device = _checked(asked).json()
        page = _checked(browser.get(device["verification_uri_complete"]))
        action, filled = _form(page)
        _checked(browser.post(action, data=filled, headers={"origin": gateway_url}))
        grant = {
            "grant_type": _DEVICE_GRANT,
            "device_code": device["device_code"],
            "client_id": "claude-code",
        }
        for _ in range(POLLS_MAX):
            answer = browser.post(f"{gateway_url}/oauth/token", data=grant)
            if answer.status_code == 400 and "authorization_pending" in answer.text:
                time.sleep(0.2)
                continue
            token: str = _checked(answer).json()["access_token"]
            return token
    raise RuntimeError("the sign-in was not confirmed")


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.url.path} answered {answer.status_code}: {answer.text[:300]}")
    return answer
