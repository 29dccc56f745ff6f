"""TLS to the deployments: always verified, TLS 1.2 at least, HTTP/1.1 alone."""

import ssl

import certifi

__all__ = ["tls_context"]


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return the settings of TLS. Reading the roots takes some 30 ms.

    Trusted are the system's roots and certifi's, and those of `ca_file` (PEM): a company's own
    CA. There is no setting that turns the verification off. Raises OSError (ssl.SSLError among
    them) where that file cannot be used; its form was checked with the configuration.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
