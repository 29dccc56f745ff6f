"""The benchmark's parts around its peers, with real sockets: sign-in, counting, forwarding."""

import argparse
import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from bench.answers import Answer
from bench.cells import Cell
from bench.load import Caller
from bench.oidc import CLIENT_ID, CLIENT_SECRET, USER, Issuer, issuer, sign_in
from bench.processes import Helper
from bench.proxy import _Bench
from bench.targets import Target
from bench.upstream import STAINLESS_ANSWER_HEADER

VERIFIER = "v" * 43
CALLBACK = "http://127.0.0.1:9/oauth/callback"
CELL = Cell(name="whole-1k-c2", body_bytes=1_000, connections=2, answer=Answer())


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def authorize(url: str, *, callback: str = CALLBACK, state: str = "s1", nonce: str = "n1") -> str:
    """Return the address to which the issuer sends the browser."""
    asked = {
        "client_id": CLIENT_ID,
        "response_type": "code",
        "redirect_uri": callback,
        "state": state,
        "nonce": nonce,
        "code_challenge": encoded(hashlib.sha256(VERIFIER.encode()).digest()),
        "code_challenge_method": "S256",
    }
    answer = httpx.get(f"{url}/authorize?{urlencode(asked)}", trust_env=False)
    assert answer.status_code == 302
    return answer.headers["location"]


def exchange(url: str, location: str, **changed: str) -> httpx.Response:
    code = parse_qs(urlsplit(location).query)["code"][0]
    asked = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }
    return httpx.post(f"{url}/token", data=asked | changed, trust_env=False)


@pytest.fixture
def known() -> Iterator[Issuer]:
    with issuer() as running:
        yield running


def test_issuer_signs_its_user_in_with_a_token_that_its_keys_verify(known: Issuer) -> None:
    # given a code, when it is exchanged
    location = authorize(known.url)
    assert parse_qs(urlsplit(location).query)["state"] == ["s1"]
    answer = exchange(known.url, location)
    # then the id token is signed by the key that discovery leads to, and says who signed in
    document = httpx.get(f"{known.url}/.well-known/openid-configuration", trust_env=False).json()
    assert document["issuer"] == known.url
    (key,) = httpx.get(document["jwks_uri"], trust_env=False).json()["keys"]
    numbers = [int.from_bytes(decoded(key[name]), "big") for name in ("e", "n")]
    public = rsa.RSAPublicNumbers(*numbers).public_key()
    head, claims, signature = answer.json()["id_token"].split(".")
    public.verify(decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), SHA256())
    said = json.loads(decoded(claims))
    assert (said["iss"], said["aud"], said["nonce"]) == (known.url, CLIENT_ID, "n1")
    assert USER.items() <= said.items()
    # and the signature is of these claims alone
    with pytest.raises(InvalidSignature):
        public.verify(
            decoded(signature), f"{head}.x{claims}".encode(), padding.PKCS1v15(), SHA256()
        )


def test_code_is_good_for_one_use_one_verifier_and_one_address(known: Issuer) -> None:
    # given codes, when one is used twice, or by somebody who does not know what it was asked with
    location = authorize(known.url)
    assert exchange(known.url, location).status_code == 200
    again = exchange(known.url, location)
    other_verifier = exchange(known.url, authorize(known.url), code_verifier="w" * 43)
    other_address = exchange(known.url, authorize(known.url), redirect_uri="http://127.0.0.1:9/")
    other_client = exchange(known.url, authorize(known.url), client_secret="guessed")
    # then it is refused
    refused = [again, other_verifier, other_address, other_client]
    assert [answer.status_code for answer in refused] == [400, 400, 400, 401]


def device_gateway(known: Issuer, asked: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    """A gateway that takes sign-ins by the device flow at an issuer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == "/device":
                form = (
                    '<form method="post" action="/device/verify?a=1&amp;b=2">'
                    '<input type="hidden" name="user_code" value="AB&amp;CD">'
                    '<button type="submit">Sign in</button></form>'
                )
                self.answer(200, f"<html><body>{form}</body></html>")
            else:
                assert path == "/oauth/callback"
                fields = {name: values[0] for name, values in parse_qs(query).items()}
                callback = f"{asked['url']}/oauth/callback"
                tokens = exchange(known.url, f"/?{query}", redirect_uri=callback).json()
                claims = json.loads(decoded(tokens["id_token"].split(".")[1]))
                asked["who"] = (fields["state"], claims["email"])
                self.answer(200, "You are signed in")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            fields = {name: values[0] for name, values in parse_qs(body).items()}
            if self.path == "/oauth/device_authorization":
                page = f"{asked['url']}/device?user_code=AB"
                told = {"device_code": "dc", "verification_uri_complete": page}
                self.answer(200, json.dumps(told))
            elif self.path == "/device/verify?a=1&b=2":
                asked["form"] = fields
                location = authorize(known.url, callback=f"{asked['url']}/oauth/callback")
                self.answer(302, "", location)
            else:
                assert fields["device_code"] == "dc"
                asked["polls"] += 1
                is_pending = asked["polls"] < asked["polls_needed"]
                told = {"error": "authorization_pending"} if is_pending else {"access_token": "jwt"}
                self.answer(400 if is_pending else 200, json.dumps(told))

        def answer(self, status: int, text: str, location: str = "") -> None:
            self.send_response(status)
            if location:
                self.send_header("location", location)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None: ...

    return Handler


@pytest.fixture
def gateway(known: Issuer) -> Iterator[dict[str, Any]]:
    asked: dict[str, Any] = {"polls": 0, "polls_needed": 2}
    with ThreadingHTTPServer(("127.0.0.1", 0), device_gateway(known, asked)) as server:
        asked["url"] = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


def test_device_sign_in_sends_the_form_and_waits_for_its_token(gateway: dict[str, Any]) -> None:
    # given a gateway that wants a form confirmed, when somebody signs in there
    token = sign_in(gateway["url"])
    # then the form was sent as it was filled in, the issuer's user is known, and the token is there
    assert token == "jwt"
    assert gateway["form"] == {"user_code": "AB&CD"}
    assert gateway["who"] == ("s1", USER["email"])
    assert gateway["polls"] == 2


def test_device_sign_in_that_nobody_confirms_ends(gateway: dict[str, Any]) -> None:
    # given a gateway that never confirms, when somebody signs in there, then it ends with an error
    gateway["polls_needed"] = 1_000
    with pytest.raises(RuntimeError, match="was not confirmed"):
        sign_in(gateway["url"])


@pytest.fixture
def upstream() -> Iterator[Helper]:
    with Helper.started("bench.upstream", None, "0") as helper:
        yield helper


@pytest.fixture
def load() -> Iterator[Helper]:
    with Helper.started("bench.load", None) as helper:
        yield helper


def bench_of(folder: Path, load: Helper, upstream: Helper) -> _Bench:
    options = argparse.Namespace(
        smoke=True, rounds=1, seconds=0.2, litellm=None, claude_gateway=None
    )
    return _Bench(options, folder, load, upstream)


def port_of(helper: Helper) -> int:
    return int(helper.ask(None, 30.0, lambda: None))


def test_requests_are_counted_at_the_upstream(
    tmp_path: Path, load: Helper, upstream: Helper
) -> None:
    # given the upstream itself as a target, asked with either header, when a cell is measured
    port = port_of(upstream)
    bench = bench_of(tmp_path, load, upstream)
    known_headers_only = Caller(answer_header=STAINLESS_ANSWER_HEADER.decode())
    for caller in (Caller(), known_headers_only):
        target = Target(name="direct", port=port, process_ids=(), caller=caller)
        bench.run([CELL], [target])
    # then it has seen the requests of both runs, warm-up included
    measured = sum(each.load.requests for each in bench.measured)
    assert measured > 0
    assert int(upstream.ask(b"", 30.0, lambda: None)) > measured


def test_peer_that_answers_without_forwarding_makes_the_run_fail(
    tmp_path: Path, load: Helper, upstream: Helper
) -> None:
    # given a target that answers by itself, when it is measured
    port_of(upstream)
    with Helper.started("bench.upstream", None, "0") as self_made:
        target = Target(name="liar", port=port_of(self_made), process_ids=())
        bench = bench_of(tmp_path, load, upstream)
        # then the run says that nothing came to the upstream
        with pytest.raises(RuntimeError, match=r"liar: [0-9]+ requests .* 0 came to the upstream"):
            bench.run([CELL], [target])
