"""Reset of a lost password."""

from typing import Any

from flask import request

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.api.clients import current_client
from app.api.schemas.account_changes import ResetPasswordSchema, ResetRequestSchema
from app.container import current_settings, services
from app.errors import DatabaseUnavailable, MailOff, Overloaded, TooManyAttempts
from app.services import password_resets

blueprint = Blueprint(
    "password_resets",
    __name__,
    access=Access.PUBLIC,
    url_prefix="/api/auth/password",
    description="Reset of a lost password",
)


@blueprint.route("/reset-requests", methods=["POST"])
@blueprint.arguments(ResetRequestSchema)
@blueprint.response(204)
@blueprint.raises(MailOff, TooManyAttempts, DatabaseUnavailable)
def request_password_reset(body: dict[str, Any]) -> None:
    """Request a mail with a token that resets the password, if this server sends mail.

    The response is the same whether or not the address has an account. The mail goes to the address as it is stored.
    """
    if current_settings().mail.smtp_url is None:
        raise MailOff
    services().attempts.count_reset_request(body["email"], request.remote_addr)
    password_resets.request_mail(body["email"])


@blueprint.route("/reset", methods=["POST"])
@blueprint.arguments(ResetPasswordSchema)
@blueprint.response(204)
@blueprint.raises(Overloaded, DatabaseUnavailable)
def reset_password(body: dict[str, Any]) -> None:
    """Set a new password with a token, and end all sessions; API keys stay valid. The token is valid once."""
    passwords, attempts = services().passwords, services().attempts
    password_resets.reset(**body, client=current_client(), passwords=passwords, attempts=attempts)
