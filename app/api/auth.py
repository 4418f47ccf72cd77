"""Registration, login, sessions, and the caller's own account."""

from dataclasses import asdict
from typing import Any

from flask import Response, request

from app.api import download
from app.api.access import Access, caller, token_identity
from app.api.blueprint import Blueprint
from app.api.clients import current_client
from app.api.in_flight import hold_stream
from app.api.schemas.auth import (
    AccountSchema,
    LoggedInSchema,
    LoginSchema,
    OwnAccountSchema,
    RegisterSchema,
    RenameSchema,
    TokensSchema,
)
from app.container import services
from app.errors import (
    DatabaseUnavailable,
    EmailTaken,
    Locked,
    NotAuthenticated,
    Overloaded,
    PermissionDenied,
    RateLimited,
    TooManyAttempts,
    TooManyStreams,
)
from app.services import accounts, quotas, sessions
from app.services.accounts import Account
from app.services.sessions import Tokens
from app.services.stored_bytes import storage_use
from app.services.user_exports import open_user_export

public_blueprint = Blueprint(
    "login",
    __name__,
    access=Access.PUBLIC,
    url_prefix="/api/auth",
    description="Registration, login and tokens",
)
blueprint = Blueprint(
    "account",
    __name__,
    access=Access.SESSION,
    url_prefix="/api/auth",
    description="The caller's own account",
)


@public_blueprint.after_request
def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"  # these responses contain tokens
    return response


@public_blueprint.route("/register", methods=["POST"])
@public_blueprint.arguments(RegisterSchema)
@public_blueprint.response(201, LoggedInSchema)
@public_blueprint.raises(EmailTaken, TooManyAttempts, Overloaded, DatabaseUnavailable, Locked)
def register(body: dict[str, Any]) -> dict[str, Any]:
    """Register an account and log in."""
    process = services()
    return _logged_in(
        *accounts.register(**body, client=current_client(), passwords=process.passwords, attempts=process.attempts)
    )


@public_blueprint.route("/login", methods=["POST"])
@public_blueprint.arguments(LoginSchema)
@public_blueprint.response(200, LoggedInSchema)
@public_blueprint.raises(NotAuthenticated, PermissionDenied, TooManyAttempts, Overloaded, DatabaseUnavailable, Locked)
def login(body: dict[str, Any]) -> dict[str, Any]:
    """Log in."""
    process = services()
    return _logged_in(
        *accounts.login(**body, client=current_client(), passwords=process.passwords, attempts=process.attempts)
    )


@public_blueprint.route("/refresh", methods=["POST"])
@public_blueprint.response(200, TokensSchema)
@public_blueprint.doc(security=[{"refreshToken": []}])
@public_blueprint.raises(NotAuthenticated, DatabaseUnavailable, Locked)
def refresh() -> Tokens:
    """Exchange a refresh token, sent as the bearer token, for new tokens.

    All refreshes with the same token within ten seconds get the same refresh token, so tabs and retries can share one.
    Later, a used token is accepted only if its answer was lost, that is, if no token from it has been used. Any other
    use of an old token ends the session.
    """
    identity = token_identity(refresh=True)
    return sessions.refresh(identity, _sent_token())


@blueprint.route("/logout", methods=["POST"])
@blueprint.response(204)
def logout() -> None:
    """Log out: end this session and invalidate its tokens."""
    sessions.revoke(caller())


@blueprint.route("/me")
@blueprint.response(200, OwnAccountSchema)
def me() -> dict[str, Any]:
    """Get the caller's account, stored bytes and token quota."""
    user_id = caller().user_id
    account, quota = accounts.get(user_id), quotas.own_quota(user_id)
    storage = storage_use(user_id, services().settings.chat.user_max_bytes)
    return {**asdict(account), "storage": storage, **({"quota": quota} if quota else {})}


@blueprint.route("/me/export")
@blueprint.response(200, **download.ZIP)
@blueprint.raises(RateLimited, TooManyStreams, Overloaded)
def export_everything() -> Response:
    """Export all data of the caller as a streamed ZIP file of JSON documents and the contents of files.

    It has one document per conversation, archived ones included, and one file per other table. `files.jsonl` has the
    names of files; the content of each is in `files/`, under its SHA-256. `manifest.json` counts them and names what
    could not be read; a file without it is truncated.
    """
    hold_stream()
    services().attempts.count_export(caller().user_id)
    uploads = services().uploads
    export = open_user_export(caller().user_id, lambda: uploads.store)
    return download.streamed(export.pieces(), export.filename)


@blueprint.route("/me", methods=["PATCH"])
@blueprint.arguments(RenameSchema)
@blueprint.response(200, AccountSchema)
def rename(body: dict[str, str]) -> Account:
    """Change the caller's name."""
    return accounts.rename(caller().user_id, **body) if body else accounts.get(caller().user_id)


def _logged_in(account: Account, tokens: Tokens) -> dict[str, Any]:
    return {**asdict(tokens), "user": account}


def _sent_token() -> str:
    """Return the bearer token exactly as sent.

    `token_identity` has verified it, but also accepts a list of credentials. That is refused here: a refresh token that
    differs from the issued one counts as stolen and ends the session.
    """
    header = request.headers["Authorization"]
    if "," in header:
        raise NotAuthenticated("Send only `Authorization: Bearer <refresh token>` in that header.")
    return header.split()[1]
