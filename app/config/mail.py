"""Settings of outgoing mail."""

import re
from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from app.bounds import MAX_SECONDS
from app.config.values import Group

PORTS = {"smtps": 465, "smtp": 587, "smtp+plain": 25}


def _smtp_url(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        valid = (
            parts.scheme in PORTS and parts.hostname and not (parts.path.strip("/") or parts.query or parts.fragment)
        )
        _ = parts.port
    except ValueError:
        raise ValueError("has an invalid host or port; in a password, write / as %2F, @ as %40, # as %23") from None
    if not valid:
        raise ValueError("must look like smtps://user:password@host, smtp://user:password@host or smtp+plain://host")
    if parts.scheme == "smtp+plain" and parts.username:
        raise ValueError("must not have a password with smtp+plain, which sends it unencrypted; use smtp or smtps")
    return url


def _sender(address: str) -> str:
    if not re.fullmatch(r"[!-;=?A-~]+@[a-z0-9.-]+", address, re.IGNORECASE) or address.count("@") != 1:
        raise ValueError("must be an email address such as parley@example.org")
    return address


def _page(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s#\"<>]+", url):
        raise ValueError("must look like https://host/path, without #, which the link adds")
    return url


class Mail(Group):
    smtp_url: Annotated[SecretStr, AfterValidator(_smtp_url)] | None = Field(
        None,
        validation_alias="SMTP_URL",
        description="Mail server: smtps://user:password@host (TLS), smtp://user:password@host (STARTTLS, required) or"
        " smtp+plain://host (no encryption); unset, this server sends no mail.",
    )
    sender: Annotated[str, AfterValidator(_sender)] | None = Field(
        None,
        max_length=254,
        validation_alias="MAIL_FROM",
        description="Address that mails are sent from; required with SMTP_URL.",
    )
    timeout: float = Field(
        10,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="SMTP_TIMEOUT",
        description="Seconds that each step with the mail server may take.",
    )
    reset_page: Annotated[str, AfterValidator(_page)] | None = Field(
        None,
        max_length=1000,
        validation_alias="PASSWORD_RESET_URL",
        description="Page of your front end that sets a new password; mails link to it with `#token=` and the token."
        " Unset, mails have the token only.",
    )
    reset_minutes: int = Field(
        30,
        ge=5,
        le=1440,
        validation_alias="PASSWORD_RESET_MINUTES",
        description="Minutes for which a token that resets a password is valid.",
    )


def smtp_parts(url: SecretStr) -> tuple[SplitResult, int, str | None, str | None]:
    """Return the parts of a mail server's URL, its port, and the decoded user and password."""
    parts = urlsplit(url.get_secret_value())
    user, password = (None if text is None else unquote(text) for text in (parts.username, parts.password))
    return parts, parts.port or PORTS[parts.scheme], user, password
