"""The mail server, if this installation sends mail."""

from collections.abc import Iterator

from app.outbound import mail
from app.outbound.mail import MailFailed
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level

SECONDS = 3.0  # for each step, so that the doctor answers within seconds


@check("mail.reachable", "Does the mail server accept connections and the login?", severity=Level.WARNING)
def reachable(context: CheckContext) -> Iterator[Finding]:
    """Connect to the mail server and log in; no mail is sent. Reports ok without SMTP_URL."""
    settings = context.settings.mail
    if settings.smtp_url is None:
        return
    try:
        mail.ping(settings.model_copy(update={"timeout": min(settings.timeout, SECONDS)}))
    except MailFailed as error:
        yield Finding(
            level=Level.WARNING,
            message=error.detail,
            object="SMTP_URL",
            remedy="Is SMTP_URL right, and is the mail server reachable from this host?",
        )
