"""Metrics of credentials: logins, refreshed sessions and API keys."""

from typing import Final, Literal

from app.metrics.registry import KnownChildren, counter

LoginOutcome = Literal["succeeded", "wrong", "disabled", "limited", "failed"]
RefreshOutcome = Literal["succeeded", "ended", "reused"]
KeyOutcome = Literal["accepted", "malformed", "unknown", "revoked", "expired", "disabled", "forbidden"]

_LOGINS: Final[tuple[LoginOutcome, ...]] = ("succeeded", "wrong", "disabled", "limited", "failed")
_REFRESHES: Final[tuple[RefreshOutcome, ...]] = ("succeeded", "ended", "reused")
_KEYS: Final[tuple[KeyOutcome, ...]] = (
    "accepted",
    "malformed",
    "unknown",
    "revoked",
    "expired",
    "disabled",
    "forbidden",
)

LOGINS = counter(
    "logins_total",
    "Logins by outcome: succeeded, wrong (address or password), disabled (the user), limited (too many wrong passwords)"
    " or failed (the server was overloaded or had an error).",
    ("outcome",),
)
SESSION_REFRESHES = counter(
    "session_refreshes_total",
    "Uses of a valid refresh token by outcome: succeeded, ended (the session) or reused (an old token, which ends the"
    " session).",
    ("outcome",),
)
API_KEY_REQUESTS = counter(
    "api_key_requests_total",
    "Requests with an API key by outcome; forbidden: the key is valid, but not for this request.",
    ("outcome",),
)

_logins = KnownChildren(LOGINS, [(outcome,) for outcome in _LOGINS])
_refreshes = KnownChildren(SESSION_REFRESHES, [(outcome,) for outcome in _REFRESHES])
_keys = KnownChildren(API_KEY_REQUESTS, [(outcome,) for outcome in _KEYS])


def record_login(outcome: LoginOutcome) -> None:
    """Record the end of a login."""
    _logins[(outcome,)].inc()


def record_session_refresh(outcome: RefreshOutcome) -> None:
    """Record the use of a refresh token whose signature is valid."""
    _refreshes[(outcome,)].inc()


def record_api_key_request(outcome: KeyOutcome) -> None:
    """Record that the API key of a request was accepted or refused."""
    _keys[(outcome,)].inc()
