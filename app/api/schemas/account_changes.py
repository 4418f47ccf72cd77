from typing import ClassVar

from marshmallow import fields, validate

from app.api.schemas.auth import Address, current_password, new_password
from app.api.schemas.base import Examples, Schema
from app.services.deletion_receipts import ERASED, PENDING


class ChangePasswordSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"current_password": "correct horse battery", "new_password": "a better one now"}]

    current_password = current_password()
    new_password = new_password()


class ChangeEmailSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"email": "ada.lovelace@example.org", "password": "correct horse battery"}]

    email = Address(max_length=254)
    password = current_password()


class DeleteAccountSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"password": "correct horse battery"}]

    password = current_password()


class ResetRequestSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"email": "ada@example.org"}]

    email = Address(max_length=254)


class ResetPasswordSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"token": f"prr_{'A' * 43}_{'B' * 43}", "new_password": "a better one now"}]

    token = fields.String(
        required=True,
        validate=validate.Length(1, 100),
        metadata={
            "description": "The token from the mail or from an operator. It is valid once.",
            "format": "password",
        },
    )
    new_password = new_password()


class DeletionSchema(Schema):
    receipt_id = fields.UUID(metadata={"description": "Id of the receipt."})
    status = fields.String(
        validate=validate.OneOf([PENDING, ERASED]),
        metadata={"description": "`pending` until a job has erased all data.", "x-enumeration": "DeletionStatus"},
    )
    erased_at = fields.AwareDateTime(allow_none=True, metadata={"description": "Null while it is pending."})
    rows = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        allow_none=True,
        metadata={"description": "Number of erased rows by table."},
    )
    backups = fields.Integer(
        allow_none=True, metadata={"description": "Number of backups that contained the data at that time."}
    )
    backups_until = fields.AwareDateTime(
        allow_none=True, metadata={"description": "Time at which the last of these backups expires, if it is known."}
    )
    files_deleted_at = fields.AwareDateTime(
        allow_none=True,
        metadata={"description": "Time at which the last stored file was deleted; null until a job has done so."},
    )
    provider_copies_deleted_at = fields.AwareDateTime(
        allow_none=True,
        metadata={"description": "Time at which the last copy of a file at a provider was deleted; null until then."},
    )
