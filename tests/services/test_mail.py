"""Mail over SMTP: encryption, login, refusals and timeouts, with a real server on loopback."""

import time

import pytest
from pydantic import SecretStr, ValidationError

from app.config import Mail, load_settings
from app.errors import MailOff, SettingsError
from app.outbound import mail
from app.outbound.mail import MailFailed
from tests.fakes.mail_server import CA, MailServer

RECIPIENT = "ada@example.org"


@pytest.fixture(autouse=True)
def _trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the CA of the server's certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CA))


def settings(url: str | None, timeout: float = 5, sender: str = "parley@example.org") -> Mail:
    return Mail(SMTP_URL=url and SecretStr(url), MAIL_FROM=sender, SMTP_TIMEOUT=timeout)  # type: ignore[call-arg]


def send(url: str, timeout: float = 5, recipient: str = RECIPIENT) -> None:
    mail.send(settings(url, timeout), recipient, "Grüße", "First line\n.A dot\nÄ\n")


def test_mail_arrives_as_sent() -> None:
    with MailServer() as server:
        send(f"smtp+plain://127.0.0.1:{server.port}")
    [received] = server.received
    assert (received.sender, received.recipients) == ("parley@example.org", [RECIPIENT])
    assert received.message["From"] == "parley@example.org"
    assert received.message["To"] == RECIPIENT
    assert received.message["Subject"] == "Grüße"
    assert received.message["Auto-Submitted"] == "auto-generated"
    assert received.message["Date"]
    assert received.message["Message-ID"]
    assert received.message.get_content().splitlines() == ["First line", ".A dot", "Ä"]
    assert server.commands[0].lower() == "ehlo example.org"


@pytest.mark.parametrize(("recipient", "envelope"), [("ada@bücher.example", "ada@xn--bcher-kva.example")])
def test_domain_of_recipient_is_sent_in_ascii(recipient: str, envelope: str) -> None:
    with MailServer() as server:
        send(f"smtp+plain://127.0.0.1:{server.port}", recipient=recipient)
    assert server.received[0].recipients == [envelope]


@pytest.mark.parametrize(("scheme", "implicit"), [("smtps", True), ("smtp", False)])
def test_login_is_encrypted(scheme: str, implicit: bool) -> None:
    account = ("parley@mail", "p@ss/w:rd")
    with MailServer(implicit_tls=implicit, starttls=not implicit, account=account) as server:
        send(f"{scheme}://parley%40mail:p%40ss%2Fw%3Ard@localhost:{server.port}")
    assert [received.over_tls for received in server.received] == [True]


def test_server_without_starttls_gets_neither_password_nor_mail() -> None:
    with MailServer(account=("me", "secret")) as server, pytest.raises(MailFailed, match="SMTPNotSupportedError"):
        send(f"smtp://me:secret@localhost:{server.port}")
    assert server.received == []
    assert not [command for command in server.commands if command.startswith("AUTH")]


@pytest.mark.parametrize(("scheme", "implicit"), [("smtps", True), ("smtp", False)])
def test_untrusted_certificate_is_refused(scheme: str, implicit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with MailServer(implicit_tls=implicit, starttls=not implicit) as server:
        with pytest.raises(MailFailed, match="SSLCertVerificationError"):
            send(f"{scheme}://localhost:{server.port}")
        with pytest.raises(MailFailed, match="SSLCertVerificationError"):
            mail.ping(settings(f"{scheme}://localhost:{server.port}"))
    assert server.received == []


@pytest.mark.parametrize(
    ("replies", "code"),
    [
        ({"RCPT": f"550 {RECIPIENT} does not exist"}, "550"),
        ({"RCPT": "451 greylisted"}, "451"),
        ({"MAIL": "552 full"}, "552"),
        ({"DATA": f"554 no mail for {RECIPIENT}"}, "554"),
        ({"EHLO": "421 busy", "HELO": "421 busy"}, "421"),
    ],
)
def test_refusal_has_code_and_no_address(replies: dict[str, str], code: str) -> None:
    with MailServer(replies=replies) as server, pytest.raises(MailFailed) as raised:
        send(f"smtp+plain://127.0.0.1:{server.port}")
    assert code in raised.value.detail
    assert "ada" not in raised.value.detail
    assert server.received == []


def test_wrong_password_is_not_in_the_error() -> None:
    with MailServer(starttls=True, account=("me", "right")) as server, pytest.raises(MailFailed) as raised:
        send(f"smtp://me:wr0ng@localhost:{server.port}")
    assert "535" in raised.value.detail
    assert not {"wr0ng", "me"} & set(raised.value.detail.split())


@pytest.mark.parametrize("command", ["EHLO", "RCPT", "DATA"])
def test_silent_server_is_left_after_the_timeout(command: str) -> None:
    with MailServer(silent=frozenset({command})) as server:
        started = time.monotonic()
        with pytest.raises(MailFailed, match=r"Timeout|SMTPServerDisconnected"):
            send(f"smtp+plain://127.0.0.1:{server.port}", timeout=0.3)
        assert time.monotonic() - started < 30  # the server would wait for a minute


def test_closed_port_is_an_error() -> None:
    with MailServer() as server:
        port = server.port
    with pytest.raises(MailFailed, match="ConnectionRefusedError"):
        send(f"smtp+plain://127.0.0.1:{port}")


def test_without_server_no_mail_is_sent() -> None:
    with pytest.raises(MailOff):
        mail.send(settings(None), RECIPIENT, "x", "x")


@pytest.mark.parametrize(
    "url",
    [
        "http://mail",
        "smtp://",
        "smtp://host:port",
        "smtp://host:99999",
        "smtp://host/path",
        "smtp+plain://me:secret@host",
        "mail.example.org",
    ],
)
def test_invalid_url_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(ValidationError) as raised:
        settings(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("sender", ["x", "a@b@c", "a b@c.d", "Ada <a@b.c>", "a@b.c\r\nBcc: x@y.z"])
def test_invalid_sender_is_refused(sender: str) -> None:
    with pytest.raises(ValidationError):
        settings(None, sender=sender)


def test_server_without_sender_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_URL", "smtp+plain://127.0.0.1")
    with pytest.raises(SettingsError, match="MAIL_FROM: required because SMTP_URL is set"):
        load_settings(env_file=None)
