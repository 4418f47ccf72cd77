"""Requests per minute: of one user, with one API key, and from one address for requests of neither.

The counting is in `app.services.limit_counters`: one round trip per limit, before any database access. The access token
identifies the user, and is verified first. An API key must be looked up in the database: until this process has seen
the key verified, which it caches for a minute, the request counts for its address. So requests with forged keys do not
use up the limit of the keys' owners.

A window begins with its first request and lasts a minute: the headers of the response are exact, and right after the
end of a window a caller has the complete limit again.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from flask import Flask, Response, current_app, g, request

from app.api.access import proven_identity
from app.api.blueprint import Blueprint
from app.api.errors import problem_of
from app.config import Limits
from app.errors import LimitReached, RateLimited
from app.metrics.limits import record_rejection
from app.services.addresses import network_of
from app.services.limit_counters import LimitCounters

WINDOW_SECONDS = 60.0
_SUBJECTS = {"user": "of one user", "key": "with one API key", "address": "from one address without a token"}


@dataclass(frozen=True, slots=True)
class _Caller:
    user: UUID | None = None
    key: UUID | None = None


@dataclass(frozen=True, slots=True)
class _Usage:
    """One limit of the current request: `used` of `rate`, this request included; the window ends in `seconds_left`."""

    limit: str
    rate: int
    used: int
    seconds_left: float

    @property
    def remaining(self) -> int:
        return max(0, self.rate - self.used)


def init_app(flask_app: Flask, settings: Limits, counters: LimitCounters) -> None:
    """Limit the requests of `flask_app`, and handle the error of this and any other limit that is reached."""
    flask_app.register_error_handler(LimitReached, _reject)
    rates = {"key": settings.key_per_minute, "user": settings.user_per_minute, "address": settings.address_per_minute}
    if not any(rates.values()):
        return

    @flask_app.before_request
    def count() -> None:
        usages: list[_Usage] = []
        g.limit_usages = usages
        if request.endpoint is None or not _is_limited():
            return
        for limit, key in _keys(_caller()):
            if rate := rates[limit]:
                [counted] = counters.add([(key, WINDOW_SECONDS)])
                usages.append(_Usage(limit, rate, counted.value, counted.seconds_left))
                if counted.value > rate:
                    raise _rate_limited(usages[-1])

    @flask_app.after_request
    def add_headers(response: Response) -> Response:
        if usages := g.get("limit_usages"):
            nearest = min(usages, key=lambda usage: usage.remaining / usage.rate)
            response.headers["X-RateLimit-Limit"] = str(nearest.rate)
            response.headers["X-RateLimit-Remaining"] = str(nearest.remaining)
            response.headers["X-RateLimit-Reset"] = str(int(time.time() + nearest.seconds_left) + 1)
        return response


def _keys(caller: _Caller) -> Iterator[tuple[str, str]]:
    """Yield each limit that counts the request, with its key.

    The API key comes first: a request that its limit rejects does not count for its owner.
    """
    if caller.key is not None:
        yield "key", f"requests:key:{caller.key}"
    if caller.user is not None:
        yield "user", f"requests:user:{caller.user}"
    else:
        yield "address", f"requests:address:{network_of(request.remote_addr)}"


def _rate_limited(usage: _Usage) -> RateLimited:
    seconds = max(1, math.ceil(usage.seconds_left))
    detail = f"More than {usage.rate} requests a minute {_SUBJECTS[usage.limit]}; try again in {seconds} seconds."
    return RateLimited(detail, limit=usage.limit, retry_after=seconds)


def _reject(error: LimitReached) -> Response:
    record_rejection(error.limit)
    return problem_of(error)


def _is_limited() -> bool:
    """Return whether the request counts. A CORS preflight does not, because its actual request does."""
    blueprint = _blueprint()
    return request.method != "OPTIONS" and (blueprint is None or blueprint.limited)


def _caller() -> _Caller:
    blueprint = _blueprint()
    identity = proven_identity(blueprint.access) if blueprint is not None else None
    if identity is None:  # if it must be known, the view rejects the request
        return _Caller()
    return _Caller(identity.user_id, identity.key.id if identity.key is not None else None)


def _blueprint() -> Blueprint | None:
    blueprint = current_app.blueprints.get(request.blueprint or "")
    return blueprint if isinstance(blueprint, Blueprint) else None
