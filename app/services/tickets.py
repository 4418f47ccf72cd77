"""Tickets: credentials in a URL, with which an `EventSource` reads the events of one turn, as it cannot send headers.

A ticket is a signed token that names its user, session or API key, and turn. It is stored nowhere and may be used any
number of times, because an `EventSource` sends it again when it reconnects. It ends with its session or key, and
`OPEN_SECONDS` after the end of its turn.
"""

import time
from typing import Any
from uuid import UUID

import jwt
from flask import current_app
from jwt import PyJWTError

from app.database import autocommit
from app.errors import NotAuthenticated, NotFound, TurnEnded
from app.repositories import turn_caller as sql
from app.services.identity import Identity, PresentedKey
from app.services.signing_keys import signing_keys, verified_claims

OPEN_SECONDS = 300.0  # after the end of the turn
_MAX_SECONDS = 86_400  # a turn is shorter

_TYPE = "ticket"
_INVALID = "The ticket is not valid for this turn; get one from `POST /api/turns/{turn_id}/ticket`."
_TURN_ENDED = f"The turn ended more than {OPEN_SECONDS / 60:.0f} minutes ago; read its messages instead."


def issue(caller: Identity, turn_id: UUID) -> str:
    """Return a ticket of the caller for a turn. Raises `NotFound`, and `TurnEnded` if it would have expired already."""
    if (turn_open := _state(caller, turn_id).turn_open) is None:
        raise NotFound("There is no such turn.")
    if not turn_open:
        raise TurnEnded(_TURN_ENDED)
    config, key, now = current_app.config, signing_keys().current, int(time.time())
    claims = {
        "sub": str(caller.user_id),
        "sid" if caller.key is None else "key": str(caller.credential_id),
        "turn": str(turn_id),
        "type": _TYPE,
        "iss": config["JWT_ENCODE_ISSUER"],
        "aud": config["JWT_ENCODE_AUDIENCE"],
        "iat": now,
        "exp": now + _MAX_SECONDS,
    }
    return jwt.encode(claims, key.secret, config["JWT_ALGORITHM"], headers={"kid": key.id})


def verify(ticket: str, turn_id: UUID) -> Identity:
    """Return the identity in a ticket for this turn, by its signature only. Raises `NotAuthenticated`."""
    try:
        claims = verified_claims(ticket)
        if claims.get("type") != _TYPE or UUID(claims["turn"]) != turn_id:
            raise NotAuthenticated(_INVALID)
        user_id = UUID(claims["sub"])
        if "key" in claims:
            return Identity(user_id, key=PresentedKey(UUID(claims["key"]), b""))
        return Identity(user_id, UUID(claims["sid"]))
    except (PyJWTError, LookupError, ValueError, TypeError, AttributeError):  # as for access tokens
        raise NotAuthenticated(_INVALID) from None


def check(identity: Identity, turn_id: UUID) -> None:
    """Check that the session or API key of a ticket is live and its turn recent. Raises `NotAuthenticated`."""
    state = _state(identity, turn_id)
    if not state.caller_live:
        raise NotAuthenticated("The session or API key of this ticket has ended; log in again.")
    if state.turn_open is False:
        raise NotAuthenticated(f"The ticket has expired. {_TURN_ENDED}")


def _state(identity: Identity, turn_id: UUID) -> Any:
    parameters = {
        "user_id": identity.user_id,
        "credential_id": identity.credential_id,
        "turn_id": turn_id,
        "seconds": OPEN_SECONDS,
    }
    with autocommit() as connection:
        return sql.TICKET.one(connection, parameters)
