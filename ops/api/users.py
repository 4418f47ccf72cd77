"""Accounts: who there is, kept out and let in again by operators; opened, promoted and erased by admins."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from flask import Response, stream_with_context
from flask.views import MethodView

from app.api import download
from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.errors import ArchiveDamaged, Conflict, EmailTaken, NotAllowed, Overloaded, Unavailable
from app.jobs import ask_for
from app.models import UserRole
from ops.accounts import people
from ops.accounts.erasure import AccountHeld, plan_erasure
from ops.accounts.people import Person, PersonInFull
from ops.accounts.quotas import Quota, quota_of, set_quota
from ops.accounts.reading import opened_account, opened_conversation
from ops.api.reports import schema_of
from ops.api.requests import requester
from ops.api.schemas.users import (
    USERS,
    AskedErasureSchema,
    ErasureSchema,
    PersonCreation,
    PersonInFullSchema,
    PersonPage,
    PersonQuery,
    PersonSchema,
    QuotaChoiceSchema,
    ReadingSchema,
    RoleSchema,
)
from ops.audit import audited
from ops.catalogue import ERASE_ACCOUNT

blueprint = Blueprint(
    "admin_users",
    __name__,
    access=Access.OPERATOR,
    url_prefix="/api/admin/users",
    description="Accounts, for operators",
)
admins_blueprint = Blueprint(
    "admin_accounts",
    __name__,
    access=Access.ADMIN,
    url_prefix="/api/admin/users",
    description="Accounts, for admins",
)


@blueprint.route("")
class Users(MethodView):
    @blueprint.arguments(PersonQuery, location="query")
    @blueprint.response(200, PersonPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """Accounts, the newest first"""
        after = query.pop("after")
        rows = people.page(**{**query, "after": after[0] if after else None, "limit": query["limit"] + 1})
        return USERS.envelope(rows, query["limit"])


@blueprint.route("/<uuid:account_id>")
class OneUser(MethodView):
    @blueprint.response(200, PersonInFullSchema)
    def get(self, account_id: UUID) -> PersonInFull:
        """An account, and how much there is of it"""
        return people.find(user_id=account_id)


@blueprint.route("/<uuid:account_id>/disable")
class Disabling(MethodView):
    @blueprint.response(200, PersonSchema)
    @blueprint.raises(Conflict)
    def post(self, account_id: UUID) -> Person:
        """Keep somebody out: sessions end, API keys open nothing, turns are cancelled; data stays"""
        with audited(by=requester(), action="user.disable", on=str(account_id)):
            _check(account_id)
            return people.disable(user_id=account_id)


@blueprint.route("/<uuid:account_id>/enable")
class Enabling(MethodView):
    @blueprint.response(200, PersonSchema)
    @blueprint.raises(Conflict)
    def post(self, account_id: UUID) -> Person:
        """Let somebody in again, who logs in anew"""
        with audited(by=requester(), action="user.enable", on=str(account_id)):
            _check(account_id)
            return people.enable(user_id=account_id)


@blueprint.route("/<uuid:account_id>/logout")
class LoggingOut(MethodView):
    @blueprint.response(200, PersonSchema)
    @blueprint.raises(Conflict)
    def post(self, account_id: UUID) -> Person:
        """End every session of somebody; API keys stay"""
        with audited(by=requester(), action="user.logout", on=str(account_id)):
            _check(account_id)
            return people.end_sessions(user_id=account_id)


@blueprint.route("/<uuid:account_id>/quota")
class OneQuota(MethodView):
    @blueprint.response(200, schema_of(Quota))
    def get(self, account_id: UUID) -> Quota:
        """Somebody's daily quota of tokens, and what of today's is used"""
        return quota_of(user_id=account_id)

    @blueprint.arguments(QuotaChoiceSchema)
    @blueprint.response(200, schema_of(Quota))
    def put(self, body: dict[str, Any], account_id: UUID) -> Quota:
        """Let somebody use so many tokens a day; null: as many as they like"""
        with audited(by=requester(), action="user.quota", on=str(account_id), details=body):
            return set_quota(user_id=account_id, tokens_per_day=body["tokens_per_day"])


@admins_blueprint.route("", methods=["POST"])
@admins_blueprint.arguments(PersonCreation)
@admins_blueprint.response(201, PersonSchema)
@admins_blueprint.raises(EmailTaken, Overloaded)
def open_account(body: dict[str, Any]) -> Person:
    """Open an account"""
    role = UserRole(body.pop("role"))
    with audited(by=requester(), action="user.create", details={"role": role}) as notes:
        created = people.create(**body, role=role)
        notes["account"] = str(created.id)
        return created


@admins_blueprint.route("/<uuid:account_id>/role", methods=["PUT"])
@admins_blueprint.arguments(RoleSchema)
@admins_blueprint.response(200, PersonSchema)
@admins_blueprint.raises(Conflict)
def set_role(body: dict[str, Any], account_id: UUID) -> Person:
    """Change what somebody may do, from the next request on"""
    with audited(by=requester(), action="user.promote", on=str(account_id), details={"to": body["role"]}) as notes:
        notes["from"] = _check(account_id).role
        return people.set_role(user_id=account_id, role=UserRole(body["role"]))


@admins_blueprint.route("/<uuid:account_id>/erase", methods=["POST"])
@admins_blueprint.arguments(ErasureSchema)
@admins_blueprint.response(202, AskedErasureSchema)
@admins_blueprint.raises(AccountHeld, Conflict, Unavailable)
def ask_for_erasure(body: dict[str, Any], account_id: UUID) -> dict[str, Any]:
    """Have an account erased with all it has, for good; a worker does it, and writes a receipt"""
    by = requester()
    with audited(by=by, action="user.ask_erasure", on=str(account_id), details={"reason": body["reason"]}) as notes:
        _check(account_id)
        plan = plan_erasure(user_id=account_id)
        message_id = ask_for(ERASE_ACCOUNT.name, account_id=str(account_id), reason=body["reason"], by=by.name)
        notes["message_id"] = str(message_id)
    return {"message_id": message_id, "account_id": account_id, "rows": plan.rows}


@admins_blueprint.route("/<uuid:account_id>/export", methods=["POST"])
@admins_blueprint.arguments(ReadingSchema)
@admins_blueprint.response(200, **download.ZIP)
def export_account(body: dict[str, Any], account_id: UUID) -> Response:
    """Everything that somebody has, also what their conversations say, as a ZIP file; the reason is written down"""
    by = requester()

    def pieces() -> Iterator[bytes]:
        with opened_account(user_id=account_id, by=by, reason=body["reason"]) as opened:
            yield from opened.pieces()

    return download.streamed(stream_with_context(pieces()), f"parley-{account_id}.zip")


@admins_blueprint.route("/<uuid:account_id>/conversations/<uuid:conversation_id>/read", methods=["POST"])
@admins_blueprint.arguments(ReadingSchema)
@admins_blueprint.response(200, **download.MARKDOWN)
@admins_blueprint.raises(Conflict, ArchiveDamaged)
def read_conversation(body: dict[str, Any], account_id: UUID, conversation_id: UUID) -> Response:
    """What a conversation of somebody's says, as Markdown; the reason is written down"""
    which = {"user_id": account_id, "conversation_id": conversation_id}
    by = requester()

    def pieces() -> Iterator[bytes]:
        with opened_conversation(**which, by=by, reason=body["reason"]) as opened:
            yield from opened

    filename = f"conversation-{conversation_id}.md"
    return download.streamed(stream_with_context(pieces()), filename, download.MARKDOWN["content_type"])


def _check(account_id: UUID) -> PersonInFull:
    """Who it is. Raises `NotFound`, `Conflict` for oneself, and `NotAllowed` where an operator means an admin."""
    found = people.find(user_id=account_id)
    if account_id == caller().user_id:
        raise Conflict("This is your own account; ask another admin.")
    if found.role == UserRole.ADMIN and caller().role != UserRole.ADMIN:
        raise NotAllowed("Only an admin may do this to an admin.")
    return found
