"""How alerts go out: a signed webhook, a message for Slack, mail. One attempt each; no retries.

Nothing here quotes an address or an answer's body: both may hold secrets.
"""

import asyncio
import logging
import smtplib
import ssl
import time
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol

import httpx
import msgspec

from schemas.alerts import AlertDestination, EmailSettings
from schemas.webhooks import signed_headers
from services.admin.alert_rules import Alert

__all__ = ["SEND_TIMEOUT_S", "Email", "Failed", "Sender", "sender_for"]

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 10.0
"""Connecting, and each wait for the other side after it, may take so long; all of it three times
as long."""
DIGEST_MAX = 20
"""A message of Slack or a mail holds at most so many alerts: those that wait when it is made."""
RETRY_AFTER_S_MAX = 300.0
_TEMPORARY = frozenset({408, 409, 425, 429})
_SERVER_ERRORS = 500
_MAIL_SERVER_ERRORS = 500


class Failed(Exception):
    """An attempt failed; the message says how. `is_final`: a further one would fail alike."""

    def __init__(
        self, reason: str, *, is_final: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.is_final = is_final
        self.retry_after_s = retry_after_s


class Sender(Protocol):
    """Sends some alerts in one attempt. `alerts_max`: so many at a time."""

    alerts_max: int

    async def send(self, alerts: Sequence[Alert]) -> None:
        """Send them all. Raises Failed."""


def sender_for(destination: AlertDestination, client: httpx.AsyncClient) -> Sender:
    """Return what sends to a destination; `client` follows no redirects."""
    if destination.kind == "webhook":
        return _Webhook(destination.url, destination.secret, client)
    if destination.kind == "slack":
        return _Slack(destination.url, client)
    assert destination.email is not None
    return Email(destination.email)


async def _post(client: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> None:
    """Post a body; of the answer the status alone is looked at. Raises Failed."""
    try:
        async with (
            asyncio.timeout(3 * SEND_TIMEOUT_S),
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            status, given = response.status_code, response.headers.get("retry-after", "")
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        raise Failed(f"no answer ({type(error).__name__})") from None
    if 200 <= status < 300:  # noqa: PLR2004
        return
    retry_after_s = min(float(given), RETRY_AFTER_S_MAX) if given.isdecimal() else None
    is_final = status < _SERVER_ERRORS and status not in _TEMPORARY
    raise Failed(f"answered with status {status}", is_final=is_final, retry_after_s=retry_after_s)


class _Webhook:
    """Each alert is a request: a CloudEvent in its structured form."""

    alerts_max = 1

    def __init__(self, url: str, secret: str | None, client: httpx.AsyncClient) -> None:
        self._url = url
        self._secret = secret
        self._client = client

    async def send(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            body = msgspec.json.encode(alert.event)
            headers = {
                "content-type": "application/cloudevents+json; charset=utf-8",
                **signed_headers(self._secret, alert.event_id, int(time.time()), body),
            }
            await _post(self._client, self._url, body, headers)


class _Slack:
    """All that waits is one message, in the form of Slack's incoming webhooks."""

    alerts_max = DIGEST_MAX

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client

    async def send(self, alerts: Sequence[Alert]) -> None:
        text = "\n\n".join(
            "\n".join([f"*{_slack_text(each.title)}*", *map(_slack_text, each.lines)])
            for each in alerts
        )
        body = msgspec.json.encode({"text": text})
        await _post(self._client, self._url, body, {"content-type": "application/json"})


def _slack_text(text: str) -> str:
    """Return a text in which nothing is a link, a mention or a channel of Slack's."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Email:
    """All that waits is one mail."""

    alerts_max = DIGEST_MAX

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings

    async def send(self, alerts: Sequence[Alert]) -> None:
        """Send one mail. Raises Failed."""
        message = self._message(alerts)
        try:
            await asyncio.to_thread(self._deliver, message)
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise Failed(
                f"the mail server refused all recipients ({', '.join(map(str, codes))})",
                is_final=all(code >= _MAIL_SERVER_ERRORS for code in codes),
            ) from None
        except smtplib.SMTPResponseException as error:
            raise Failed(
                f"the mail server answered {error.smtp_code}",
                is_final=error.smtp_code >= _MAIL_SERVER_ERRORS,
            ) from None
        except (smtplib.SMTPException, OSError) as error:
            raise Failed(f"no mail server ({type(error).__name__})") from None

    def _message(self, alerts: Sequence[Alert]) -> EmailMessage:
        settings = self._settings
        message = EmailMessage()
        title = alerts[0].title if len(alerts) == 1 else f"{len(alerts)} alerts"
        message["Subject"] = f"[tallygate] {title}"
        message["From"] = settings.sender
        message["To"] = ", ".join(settings.recipients)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=settings.sender.partition("@")[2])
        # Nobody's absence notice shall answer it.
        message["Auto-Submitted"] = "auto-generated"
        parts = ["\n".join([each.title, *each.lines, f"Event {each.event_id}"]) for each in alerts]
        message.set_content("\n\n".join(parts) + "\n")
        return message

    def _deliver(self, message: EmailMessage) -> None:
        settings = self._settings
        context = ssl.create_default_context()
        where = (settings.host, settings.port)
        if settings.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(*where, timeout=SEND_TIMEOUT_S, context=context)
        else:
            server = smtplib.SMTP(*where, timeout=SEND_TIMEOUT_S)
        with server:
            if settings.security == "starttls":
                server.starttls(context=context)
            if settings.username is not None and settings.password is not None:
                server.login(settings.username, settings.password)
            refused = server.send_message(message)
        if refused:
            log.warning("a mail of alerts was refused for %d of its recipients", len(refused))
