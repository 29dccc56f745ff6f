"""How webhooks are signed, whatever they tell: by the convention of standardwebhooks.com.

There are libraries for receivers in most languages.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac

__all__ = ["signature", "signed_headers"]

_SECRET_PREFIX = "whsec_"  # noqa: S105 - no password


def signed_headers(
    secret: str | None, message_id: str, timestamp_s: int, body: bytes
) -> dict[str, str]:
    """Return the headers that name a message and its time, and prove who sent it.

    Without a `secret` it is not signed.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp_s)}
    if secret is not None:
        headers["webhook-signature"] = signature(secret, message_id, timestamp_s, body)
    return headers


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: `v1,` and a MAC of id, time and body in base64.

    A secret `whsec_…` holds its bytes in base64, any other one is its own bytes.
    """
    key = secret.encode()
    if secret.startswith(_SECRET_PREFIX):
        # What is no base64 is taken as it is.
        with contextlib.suppress(binascii.Error, ValueError):
            key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digest = hmac.digest(key, signed, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()
