"""Certificates of all sorts, made for a test: good ones, and each kind that must not be trusted."""

import ssl
import warnings
from datetime import UTC, datetime
from pathlib import Path

import trustme

__all__ = ["Certificates"]

_LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


class Certificates:
    """A CA, whose root lies in `ca_file`, and settings of servers that it does or does not know."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.ca_file = folder / "company-ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def good(self) -> ssl.SSLContext:
        """Return a server's settings that are to be trusted."""
        return _server(self._ca.issue_cert("127.0.0.1", "localhost"))

    def expired(self) -> ssl.SSLContext:
        """Return those of a server whose certificate has run out."""
        return _server(self._ca.issue_cert("127.0.0.1", not_after=_LONG_AGO))

    def wrong_host(self) -> ssl.SSLContext:
        """Return those of a server with another one's certificate."""
        return _server(self._ca.issue_cert("api.anthropic.test"))

    def untrusted_root(self) -> ssl.SSLContext:
        """Return those of a server whose CA nobody knows."""
        return _server(trustme.CA().issue_cert("127.0.0.1"))

    def self_signed(self, folder: Path) -> ssl.SSLContext:
        """Return those of a server that is its own CA."""
        own = trustme.CA()
        path = folder / "self-signed.pem"
        own.private_key_pem.write_to_path(path)
        own.cert_pem.write_to_path(path, append=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def old_tls(self) -> ssl.SSLContext:
        """Return those of a server that is to be trusted, and speaks TLS 1.1 at most."""
        context = self.good()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        return context


def _server(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context
