"""TLS to a gateway: always verified, whoever the certificate comes from."""

import ssl
from pathlib import Path

import certifi

__all__ = ["certificate_problem", "tls_context"]

_CAUSES_MAX = 10


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return the settings of TLS. Reading the roots takes some 30 ms.

    Trusted are the system's roots (or those of $SSL_CERT_FILE and $SSL_CERT_DIR), certifi's, and
    those of `ca_file` (PEM). Raises OSError where that cannot be read; ssl.SSLError is one.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def certificate_problem(error: BaseException) -> str | None:
    """Return why a certificate was not trusted, if that is what an error comes from."""
    cause: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if cause is None:
            return None
        cause = cause.__cause__ or cause.__context__
    return None
