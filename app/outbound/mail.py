"""Mail over SMTP: one message to one recipient, on a connection of its own.

No error contains an address: mail servers repeat the recipient in theirs, and errors are logged and recorded.
"""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from app.config.mail import Mail, smtp_parts
from app.errors import MailOff, Unavailable


class MailFailed(Unavailable):
    code = "mail_failed"
    default_detail = "The mail server was not reachable or refused."


def send(settings: Mail, recipient: str, subject: str, text: str) -> None:
    """Send a mail. Each step takes at most SMTP_TIMEOUT. Raises `MailFailed`, and `MailOff` without SMTP_URL."""
    recipient = _ascii_domain(recipient)
    with _connected(settings) as server:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = str(settings.sender), recipient, subject
        message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=_own_domain(settings))
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        server.send_message(message, str(settings.sender), [recipient])


def ping(settings: Mail) -> None:
    """Connect and log in. Raises as `send` does."""
    with _connected(settings) as server:
        server.ehlo_or_helo_if_needed()


@contextmanager
def _connected(settings: Mail) -> Iterator[smtplib.SMTP]:
    if settings.smtp_url is None:
        raise MailOff
    parts, port, user, password = smtp_parts(settings.smtp_url)
    host, name, tls = str(parts.hostname), _own_domain(settings), ssl.create_default_context()
    try:
        with (
            smtplib.SMTP_SSL(host, port, name, timeout=settings.timeout, context=tls)
            if parts.scheme == "smtps"
            else smtplib.SMTP(host, port, name, timeout=settings.timeout)
        ) as server:
            if parts.scheme == "smtp":
                server.starttls(context=tls)  # raises if the server does not offer it
            if user:
                server.login(user, password or "")
            yield server
    except (OSError, ValueError) as error:  # SMTPException is an OSError
        raise MailFailed(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Return what failed as a sentence, with the server's code but without its text."""
    code = getattr(error, "smtp_code", None)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code = next(iter(error.recipients.values()))[0]
    answered = f" with the code {code}" if isinstance(code, int) and code > 0 else ""
    return f"The mail server was not reachable or refused{answered}: {type(error).__name__}."


def _own_domain(settings: Mail) -> str:
    """Return the sender's domain. smtplib would ask DNS for the name of this machine, which can take long."""
    return str(settings.sender).rpartition("@")[2]


def _ascii_domain(address: str) -> str:
    """Return `address` with its domain in ASCII, which every mail server accepts."""
    name, _, domain = address.rpartition("@")
    try:
        return f"{name}@{domain.encode('idna').decode()}"
    except UnicodeError:
        return address
