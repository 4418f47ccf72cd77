"""Tokens that reset a password: an operator hands one over, or a job mails one to the stored address."""

from dataclasses import dataclass
from uuid import UUID

from app.container import current_settings
from app.database import autocommit
from app.enums import UserStatus
from app.errors import NotFound
from app.outbound import mail
from app.services import password_resets
from app.services.password_resets import ResetToken
from ops.catalogue.jobs import MAIL_PASSWORD_RESET
from ops.runs.actors import Actor
from ops.runs.audit import audited
from ops.users import users

SUBJECT = "Reset your password"
TEXT = """\
A new password was requested for your account {email}.

{instruction}

This is possible once, until {minutes} minutes after this mail was sent. All your sessions end then.
If you did not request this, you need not do anything: your password is unchanged.
"""
LINK_TEMPLATE = "Set it on this page:\n\n{page}#token={token}"
PLAIN_TEMPLATE = "Set it with this token:\n\n{token}"


@dataclass(frozen=True, slots=True)
class MailReport:
    """Result of the job; `sent` is false if there is no active account."""

    sent: bool


def issue(*, user_id: UUID, minutes: int) -> ResetToken:
    """Create a token for an operator to hand over. Raises `NotFound`, and `Conflict` for a disabled user."""
    users.get(user_id=user_id)
    with autocommit() as connection:
        return password_resets.issue(connection, user_id, minutes=minutes)


def mail_token(*, user_id: str) -> MailReport:
    """Run the job users.mail_password_reset: mail a new token to the stored address.

    No connection is held while the mail is sent. Raises `MailFailed`, and `MailOff` without SMTP_URL.
    """
    settings = current_settings().mail
    try:
        user = users.get(user_id=UUID(user_id))
    except NotFound:
        return MailReport(sent=False)
    if user.status != UserStatus.ACTIVE:
        return MailReport(sent=False)
    actor = Actor(kind="job", name=MAIL_PASSWORD_RESET.name)
    with audited(actor=actor, action="user.mail_password_reset", target=user_id):
        token = issue(user_id=user.id, minutes=settings.reset_minutes).token
        template = LINK_TEMPLATE if settings.reset_page else PLAIN_TEMPLATE
        instruction = template.format(page=settings.reset_page, token=token)
        text = TEXT.format(email=user.email, instruction=instruction, minutes=settings.reset_minutes)
        mail.send(settings, user.email, SUBJECT, text)
    return MailReport(sent=True)
