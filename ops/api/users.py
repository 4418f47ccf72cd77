"""Users: operators list, disable and enable them; admins create, promote, export and erase them."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from flask import Response, stream_with_context
from flask.views import MethodView

from app.api import download
from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.container import current_settings
from app.enums import UserRole
from app.errors import ArchiveDamaged, Conflict, EmailTaken, Overloaded, Unavailable, UserHeld
from app.jobs import enqueue_confirmed
from app.services.quotas import Quota, quota_of, set_quota
from app.services.stored_bytes import StorageUse, set_limit, storage_use
from ops.api.protected_admins import refuse_change_of_admin
from ops.api.reports import schema_of
from ops.api.requests import current_actor
from ops.api.schemas.users import (
    USERS,
    AccessReasonSchema,
    EnqueuedErasureSchema,
    ErasureSchema,
    QuotaChoiceSchema,
    RoleSchema,
    StorageLimitSchema,
    UserCreationSchema,
    UserDetailsSchema,
    UserPage,
    UserQuery,
    UserSummarySchema,
)
from ops.catalogue.jobs import ERASE_USER
from ops.runs.audit import audited
from ops.users import users
from ops.users.break_glass import audited_conversation, audited_user_data
from ops.users.erasure import plan_erasure
from ops.users.users import UserDetails, UserSummary

blueprint = Blueprint(
    "admin_users",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/users",
    description="Users, for operators",
)
admins_blueprint = Blueprint(
    "admin_accounts",
    __name__,
    access=Access.ADMIN,
    url_prefix="/api/admin/users",
    description="Users, for admins",
)


@blueprint.route("")
class Users(MethodView):
    @blueprint.arguments(UserQuery, location="query")
    @blueprint.response(200, UserPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List users, newest first."""
        after = query.pop("after")
        rows = users.list_users(**{**query, "after": after[0] if after else None, "limit": query["limit"] + 1})
        return USERS.envelope(rows, query["limit"])


@blueprint.route("/<uuid:user_id>")
class User(MethodView):
    @blueprint.response(200, UserDetailsSchema)
    def get(self, user_id: UUID) -> UserDetails:
        """Get a user with the number of their objects."""
        return users.get(user_id=user_id)


@blueprint.route("/<uuid:user_id>/disable")
class UserDisable(MethodView):
    @blueprint.response(200, UserSummarySchema)
    @blueprint.raises(Conflict)
    def post(self, user_id: UUID) -> UserSummary:
        """Disable a user: end sessions, refuse API keys, cancel turns; the data stays."""
        with audited(actor=current_actor(), action="user.disable", target=str(user_id)):
            _changeable_user(user_id)
            return users.disable(user_id=user_id)


@blueprint.route("/<uuid:user_id>/enable")
class UserEnable(MethodView):
    @blueprint.response(200, UserSummarySchema)
    @blueprint.raises(Conflict)
    def post(self, user_id: UUID) -> UserSummary:
        """Enable a disabled user, who must log in again."""
        with audited(actor=current_actor(), action="user.enable", target=str(user_id)):
            _changeable_user(user_id)
            return users.enable(user_id=user_id)


@blueprint.route("/<uuid:user_id>/logout")
class UserLogout(MethodView):
    @blueprint.response(200, UserSummarySchema)
    @blueprint.raises(Conflict)
    def post(self, user_id: UUID) -> UserSummary:
        """End all sessions of a user; API keys stay valid."""
        with audited(actor=current_actor(), action="user.logout", target=str(user_id)):
            _changeable_user(user_id)
            return users.end_sessions(user_id=user_id)


@blueprint.route("/<uuid:user_id>/quota")
class UserQuota(MethodView):
    @blueprint.response(200, schema_of(Quota))
    def get(self, user_id: UUID) -> Quota:
        """Get the daily token quota of a user and the tokens used today."""
        return quota_of(user_id=user_id)

    @blueprint.arguments(QuotaChoiceSchema)
    @blueprint.response(200, schema_of(Quota))
    def put(self, body: dict[str, Any], user_id: UUID) -> Quota:
        """Set the daily token quota of a user; null removes it."""
        with audited(actor=current_actor(), action="user.quota", target=str(user_id), details=body):
            refuse_change_of_admin(user_id)
            return set_quota(user_id=user_id, tokens_per_day=body["tokens_per_day"])


@blueprint.route("/<uuid:user_id>/storage")
class UserStorage(MethodView):
    @blueprint.response(200, schema_of(StorageUse))
    def get(self, user_id: UUID) -> StorageUse:
        """Get the bytes that a user stores, and their limit."""
        return storage_use(user_id, current_settings().chat.user_max_bytes)

    @blueprint.arguments(StorageLimitSchema)
    @blueprint.response(200, schema_of(StorageUse))
    def put(self, body: dict[str, Any], user_id: UUID) -> StorageUse:
        """Set the limit of the bytes that a user stores; null restores the default."""
        with audited(actor=current_actor(), action="user.storage", target=str(user_id), details=body):
            refuse_change_of_admin(user_id)
            return set_limit(user_id, body["max_bytes"], current_settings().chat.user_max_bytes)


@admins_blueprint.route("", methods=["POST"])
@admins_blueprint.arguments(UserCreationSchema)
@admins_blueprint.response(201, UserSummarySchema)
@admins_blueprint.raises(EmailTaken, Overloaded)
def create_user(body: dict[str, Any]) -> UserSummary:
    """Create a user."""
    role = UserRole(body.pop("role"))
    with audited(actor=current_actor(), action="user.create", details={"role": role}) as notes:
        created = users.create(**body, role=role)
        notes["account"] = str(created.id)
        return created


@admins_blueprint.route("/<uuid:user_id>/role", methods=["PUT"])
@admins_blueprint.arguments(RoleSchema)
@admins_blueprint.response(200, UserSummarySchema)
@admins_blueprint.raises(Conflict)
def set_role(body: dict[str, Any], user_id: UUID) -> UserSummary:
    """Change the role of a user, effective with the next request."""
    with audited(
        actor=current_actor(), action="user.promote", target=str(user_id), details={"to": body["role"]}
    ) as notes:
        notes["from"] = _changeable_user(user_id).role
        return users.set_role(user_id=user_id, role=UserRole(body["role"]))


@admins_blueprint.route("/<uuid:user_id>/erase", methods=["POST"])
@admins_blueprint.arguments(ErasureSchema)
@admins_blueprint.response(202, EnqueuedErasureSchema)
@admins_blueprint.raises(UserHeld, Conflict, Unavailable)
def request_erasure(body: dict[str, Any], user_id: UUID) -> dict[str, Any]:
    """Enqueue the permanent erasure of a user with all their data; the job writes a receipt."""
    by = current_actor()
    with audited(
        actor=by, action="user.request_erasure", target=str(user_id), details={"reason": body["reason"]}
    ) as notes:
        _changeable_user(user_id)
        plan = plan_erasure(user_id=user_id)
        message_id = enqueue_confirmed(ERASE_USER.name, user_id=str(user_id), reason=body["reason"], by=by.name)
        notes["message_id"] = str(message_id)
    return {"message_id": message_id, "user_id": user_id, "rows": plan.rows}


@admins_blueprint.route("/<uuid:user_id>/export", methods=["POST"])
@admins_blueprint.arguments(AccessReasonSchema)
@admins_blueprint.response(200, **download.ZIP)
def export_user(body: dict[str, Any], user_id: UUID) -> Response:
    """Export all data of a user, including message content, as a ZIP file; the audit records the reason."""
    by = current_actor()

    def chunks() -> Iterator[bytes]:
        with audited_user_data(user_id=user_id, by=by, reason=body["reason"]) as opened:
            yield from opened.pieces()

    return download.streamed(stream_with_context(chunks()), f"parley-{user_id}.zip")


@admins_blueprint.route("/<uuid:user_id>/conversations/<uuid:conversation_id>/read", methods=["POST"])
@admins_blueprint.arguments(AccessReasonSchema)
@admins_blueprint.response(200, **download.MARKDOWN)
@admins_blueprint.raises(Conflict, ArchiveDamaged)
def read_conversation(body: dict[str, Any], user_id: UUID, conversation_id: UUID) -> Response:
    """Read a conversation of a user as Markdown; the audit records the reason."""
    ids = {"user_id": user_id, "conversation_id": conversation_id}
    by = current_actor()

    def chunks() -> Iterator[bytes]:
        with audited_conversation(**ids, by=by, reason=body["reason"]) as opened:
            yield from opened

    filename = f"conversation-{conversation_id}.md"
    return download.streamed(stream_with_context(chunks()), filename, download.MARKDOWN["content_type"])


def _changeable_user(user_id: UUID) -> UserDetails:
    """Return the user.

    Raises `NotFound`, `Conflict` for the caller, and `PermissionDenied` if an operator changes an admin.
    """
    details = users.get(user_id=user_id)
    if user_id == caller().user_id:
        raise Conflict("This is your own account; another admin must do this.")
    refuse_change_of_admin(user_id)
    return details
