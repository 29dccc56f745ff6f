"""The address of a client, as the proxy tells it to the admin service, and the proof of the proxy.

The admin service counts wrong credentials by address, and sees none but the proxy's. So the proxy
adds the client's to the requests that it passes on, with an HMAC that only those can make who know
the master key: a client that sends these headers by itself changes nothing.
"""

import hashlib
import hmac
from collections.abc import Iterable

__all__ = ["CLIENT_HEADER", "PROOF_HEADER", "address_headers", "proved_address"]

CLIENT_HEADER = b"x-tallygate-client"
PROOF_HEADER = b"x-tallygate-client-proof"

_PURPOSE = b"tallygate client address\0"


def address_headers(address: str, master_key_hash: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell an address and prove who says so."""
    encoded = address.encode("latin-1", "replace")
    return [(CLIENT_HEADER, encoded), (PROOF_HEADER, _proof(encoded, master_key_hash))]


def proved_address(headers: Iterable[tuple[bytes, bytes]], master_key_hash: str) -> str | None:
    """Return the address that is told with a proof; None where there is none, or a wrong one.

    Header names are lower case.
    """
    told = {name: value for name, value in headers if name in (CLIENT_HEADER, PROOF_HEADER)}
    address, proof = told.get(CLIENT_HEADER), told.get(PROOF_HEADER)
    if address is None or proof is None:
        return None
    if not hmac.compare_digest(proof, _proof(address, master_key_hash)):
        return None
    return address.decode("latin-1")


def _proof(address: bytes, master_key_hash: str) -> bytes:
    digest = hmac.new(master_key_hash.encode(), _PURPOSE + address, hashlib.sha256)
    return digest.hexdigest().encode()
