"""Accounts: opening one, logging in and out, one's own name and password."""

from dataclasses import asdict
from typing import Any

from flask import Response, request

from app.api import download
from app.api.access import Access, caller, token_identity
from app.api.blueprint import Blueprint
from app.api.schemas.auth import (
    AccountSchema,
    ChangePasswordSchema,
    LoggedInSchema,
    LoginSchema,
    OwnAccountSchema,
    RegisterSchema,
    RenameSchema,
    TokensSchema,
)
from app.errors import (
    DatabaseUnavailable,
    EmailTaken,
    NotAllowed,
    NotAuthenticated,
    Overloaded,
    RateLimited,
    TooManyAttempts,
)
from app.services import accounts, quotas, sessions
from app.services.account_exports import open_account
from app.services.accounts import Account
from app.services.container import services
from app.services.sessions import Client, Tokens

public_blueprint = Blueprint(
    "login", __name__, access=Access.PUBLIC, url_prefix="/api/auth", description="Getting tokens"
)
blueprint = Blueprint(
    "account", __name__, access=Access.PERSON, url_prefix="/api/auth", description="The caller's own account"
)


@public_blueprint.after_request
def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"  # these answers are keys
    return response


@public_blueprint.route("/register", methods=["POST"])
@public_blueprint.arguments(RegisterSchema)
@public_blueprint.response(201, LoggedInSchema)
@public_blueprint.raises(EmailTaken, TooManyAttempts, Overloaded, DatabaseUnavailable)
def register(body: dict[str, str]) -> dict[str, Any]:
    """Open an account and log in"""
    return _logged_in(*accounts.register(**body, client=_client()))


@public_blueprint.route("/login", methods=["POST"])
@public_blueprint.arguments(LoginSchema)
@public_blueprint.response(200, LoggedInSchema)
@public_blueprint.raises(NotAuthenticated, NotAllowed, TooManyAttempts, Overloaded, DatabaseUnavailable)
def login(body: dict[str, str]) -> dict[str, Any]:
    """Log in"""
    return _logged_in(*accounts.login(**body, client=_client()))


@public_blueprint.route("/refresh", methods=["POST"])
@public_blueprint.response(200, TokensSchema)
@public_blueprint.doc(security=[{"refreshToken": []}])
@public_blueprint.raises(NotAuthenticated, DatabaseUnavailable)
def refresh() -> Tokens:
    """Exchange a refresh token, sent as the bearer token, for new tokens

    The token before the current one is honoured once within ten seconds: two tabs may refresh together. Any other use
    of an old one ends the session.
    """
    identity = token_identity(refresh=True)
    return sessions.refresh(identity, _sent_token())


@blueprint.route("/logout", methods=["POST"])
@blueprint.response(204)
def logout() -> None:
    """End this session; its tokens fail at once"""
    sessions.revoke(caller())


@blueprint.route("/me")
@blueprint.response(200, OwnAccountSchema)
def me() -> dict[str, Any]:
    """Who I am, and how many tokens I may use"""
    user_id = caller().user_id
    account, quota = accounts.get(user_id), quotas.own_quota(user_id)
    return {**asdict(account), **({"quota": quota} if quota else {})}


@blueprint.route("/me/export")
@blueprint.response(200, **download.ZIP)
@blueprint.raises(RateLimited)
def export_everything() -> Response:
    """Everything that is stored about me, as a ZIP file of JSON, streamed

    A document for each conversation, archived ones too, and a file for each other table; `manifest.json` says what is
    where. A file without it was cut off.
    """
    services().attempts.exporting(caller().user_id)
    opened = open_account(caller().user_id)
    return download.streamed(opened.pieces(), opened.filename)


@blueprint.route("/me", methods=["PATCH"])
@blueprint.arguments(RenameSchema)
@blueprint.response(200, AccountSchema)
def rename(body: dict[str, str]) -> Account:
    """Change my name"""
    return accounts.rename(caller().user_id, **body) if body else accounts.get(caller().user_id)


@blueprint.route("/password", methods=["POST"])
@blueprint.arguments(ChangePasswordSchema)
@blueprint.response(204)
@blueprint.raises(TooManyAttempts, Overloaded)
def change_password(body: dict[str, str]) -> None:
    """Change my password and end all my sessions, this one too; API keys stay valid"""
    accounts.change_password(caller().user_id, **body, client=_client())


def _logged_in(account: Account, tokens: Tokens) -> dict[str, Any]:
    return {**asdict(tokens), "user": account}


def _client() -> Client:
    return Client(request.remote_addr, request.user_agent.string)


def _sent_token() -> str:
    """The bearer token as it was sent. `token_identity` has verified it, but picks it from a list too: not here, where
    what is not the very token that was given out would count as stolen."""
    header = request.headers["Authorization"]
    if "," in header:
        raise NotAuthenticated("Send `Authorization: Bearer <refresh token>` and nothing else in that header.")
    return header.split()[1]
