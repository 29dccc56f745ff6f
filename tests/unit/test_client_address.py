"""The address that the proxy tells: believed with the right proof alone."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.client_address import (
    CLIENT_HEADER,
    PROOF_HEADER,
    address_headers,
    proved_address,
)

SECRET = "a" * 64


@given(st.one_of(st.ip_addresses().map(str), st.text(max_size=60)))
def test_address_comes_back_with_the_same_secret_and_not_with_another(address: str) -> None:
    # Given an address told with a secret, then it is believed with that secret alone.
    headers = address_headers(address, SECRET)
    expected = address.encode("latin-1", "replace").decode("latin-1")
    assert proved_address(headers, SECRET) == expected
    assert proved_address(headers, "b" * 64) is None


def test_address_without_its_own_proof_is_not_believed() -> None:
    # Given no proof, an empty one, or that of another address, then there is no address.
    proof = address_headers("10.0.0.1", SECRET)[1]
    claimed = (CLIENT_HEADER, b"10.0.0.2")
    for headers in ([], [claimed], [proof], [claimed, (PROOF_HEADER, b"")], [claimed, proof]):
        assert proved_address(headers, SECRET) is None
