"""Mail of alerts to a real mail server with TLS and a password: nothing goes where it must not."""

import asyncio
from pathlib import Path

import pytest

from schemas.alerts import EmailSettings
from services.admin.alert_rules import Alert
from services.admin.alert_senders import Email, Failed
from tests.support.certificates import Certificates
from tests.support.receivers import MailReceiver, mail_receiver

LOGIN = ("tallygate", "pw-of-the-tests")


def alert(title: str) -> Alert:
    return Alert(
        kind="key.blocked",
        event_id="1",
        time_us=0,
        title=title,
        lines=("Key id key_1",),
        event={},
        owners={},
    )


def send(receiver: MailReceiver, *alerts: Alert, password: str = LOGIN[1], to: str = "b") -> None:
    settings = EmailSettings(
        host="127.0.0.1",
        port=receiver.port,
        sender="tg@corp.example",
        recipients=(f"{to}@corp.example",),
        username=LOGIN[0],
        password=password,
    )
    asyncio.run(Email(settings).send(alerts))


def test_mail_goes_over_tls_with_the_password_and_not_to_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
    # given a mail server that is to be trusted, when two alerts wait, then one mail holds both,
    # in the words that a name had, without its line breaks
    with mail_receiver(certificates.good(), LOGIN) as receiver:
        send(receiver, alert("Key a was blocked"), alert("Key ü b was blocked"))
        (letter,) = receiver.wait(1)
        assert letter["subject"] == "[tallygate] 2 alerts"
        assert letter["auto-submitted"] == "auto-generated"
        text = letter.get_content().replace("\r\n", "\n")  # type: ignore[attr-defined]
        assert text.startswith("Key a was blocked\nKey id key_1\nEvent 1\n\nKey ü b was blocked\n")
        # and a wrong password is final
        with pytest.raises(Failed, match="answered 535") as wrong:
            send(receiver, alert("x"), password="wrong")
        assert wrong.value.is_final
        assert len(receiver.mails) == 1
    # given servers whose certificates are another one's, then nothing is sent there
    for context in (certificates.wrong_host(), certificates.untrusted_root()):
        with mail_receiver(context, LOGIN) as stranger:
            with pytest.raises(Failed, match="no mail server") as refused:
                send(stranger, alert("x"))
            assert not refused.value.is_final
            assert stranger.mails == []
    # and one that offers no TLS gets neither the password nor the mail
    with mail_receiver() as open_server:
        with pytest.raises(Failed):
            send(open_server, alert("x"))
        assert open_server.mails == []
