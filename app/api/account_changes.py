"""Changes of the caller's account that ask for the password again, and the receipt of a deletion."""

from typing import Any
from uuid import UUID

from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.clients import current_client
from app.api.schemas.account_changes import (
    ChangeEmailSchema,
    ChangePasswordSchema,
    DeleteAccountSchema,
    DeletionSchema,
)
from app.api.schemas.auth import AccountSchema
from app.container import services
from app.errors import EmailTaken, Overloaded, TooManyAttempts, UserHeld
from app.services import account_changes, deletion_receipts
from app.services.account_changes import PasswordCheck
from app.services.accounts import Account
from app.services.deletion_receipts import DeletionReceipt

blueprint = Blueprint(
    "account_changes",
    __name__,
    access=Access.SESSION,
    url_prefix="/api/auth",
    description="Changes of the caller's account that ask for the password",
)
receipts_blueprint = Blueprint(
    "deletions",
    __name__,
    access=Access.PUBLIC,
    url_prefix="/api/auth/deletions",
    description="Receipts of deleted accounts",
)


@blueprint.route("/password", methods=["POST"])
@blueprint.arguments(ChangePasswordSchema)
@blueprint.response(204)
@blueprint.raises(TooManyAttempts, Overloaded)
def change_password(body: dict[str, Any]) -> None:
    """Change your password and end all sessions, this one included; API keys stay valid."""
    account_changes.change_password(caller().user_id, **body, check=_check())


@blueprint.route("/email", methods=["POST"])
@blueprint.arguments(ChangeEmailSchema)
@blueprint.response(200, AccountSchema)
@blueprint.raises(EmailTaken, TooManyAttempts, Overloaded)
def change_email(body: dict[str, Any]) -> Account:
    """Change your email address, with effect from the next login; sessions and API keys stay valid.

    Tokens that reset the password end, because they were requested for the old address.
    """
    return account_changes.change_email(caller().user_id, **body, check=_check())


@blueprint.route("/delete", methods=["POST"])
@blueprint.arguments(DeleteAccountSchema)
@blueprint.response(202, DeletionSchema)
@blueprint.raises(UserHeld, TooManyAttempts, Overloaded)
def delete_account(body: dict[str, Any]) -> DeletionReceipt:
    """Delete your account with all its data, permanently.

    All sessions and API keys end at once, and running turns are cancelled. A job then erases the data; store
    `receipt_id`, with which `GET /api/auth/deletions/{receipt_id}` returns the receipt.
    """
    receipt_id = account_changes.request_deletion(caller().user_id, **body, check=_check())
    return DeletionReceipt(receipt_id, deletion_receipts.PENDING)


@receipts_blueprint.route("/<uuid:receipt_id>")
class Deletion(MethodView):
    @receipts_blueprint.response(200, DeletionSchema)
    def get(self, receipt_id: UUID) -> DeletionReceipt:
        """Get the receipt of a deleted account; the id, which cannot be guessed, is all that it needs."""
        return deletion_receipts.get(receipt_id)


def _check() -> PasswordCheck:
    process = services()
    return PasswordCheck(current_client(), process.passwords, process.attempts)
