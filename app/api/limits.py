"""Requests a minute: of one user, with one API key, and from one address for whoever is neither.

flask-limiter counts a request in each limit that it meets; where it is counted is `app.services.limit_counters`, in
one round trip that also brings what the answer's headers say. Whose a request is, its token says, which is verified
before any database is asked. An API key says it too, but only the database can tell whether the key is real: until this
process has seen it verified, which it knows for a minute, the request counts for its address, so that forging
somebody's key does not use up their share.

The windows begin with their first request and last a minute: what the headers say is exact, and right after the end of
a window a caller has the whole of the next.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from flask import Flask, Response, current_app, request
from flask_limiter import ApplicationLimit, Limiter, RateLimitExceeded, RequestLimit
from limits.storage import Storage

from app.api.access import Access, claimed
from app.api.blueprint import Blueprint
from app.api.errors import problem_of
from app.config import Limits
from app.errors import LimitReached, NotAuthenticated, RateLimited
from app.metrics.limits import record_refusal
from app.services.addresses import network_of
from app.services.container import services
from app.services.limit_counters import LimitCounters

# In the request's environment: whose it is, and what was counted for it.
_CALLER, _COUNTED = "parley.limited_caller", "parley.counted"
_OF = {"user": "of one user", "key": "with one API key", "address": "from one address without a token"}


@dataclass(frozen=True, slots=True)
class _Caller:
    user: UUID | None = None
    key: UUID | None = None


_NOBODY = _Caller()


def init_app(flask_app: Flask, settings: Limits, counters: LimitCounters) -> None:
    """Limit the requests of `flask_app`, and answer whoever has reached a limit, this or another."""
    flask_app.register_error_handler(LimitReached, _refuse)
    limits: list[Any] = [*_limits(settings)]
    if not limits:
        return
    logging.getLogger("flask-limiter").setLevel(logging.WARNING)  # every refusal is a line of the request's own
    limiter = _Limiter(
        lambda: "",  # each limit has its own
        application_limits=limits,
        storage_uri=f"{_Counted.STORAGE_SCHEME[0]}://",
        storage_options=cast(dict[str, Any], {"counters": counters}),
        strategy="fixed-window",
        headers_enabled=False,  # it would put Retry-After on every answer
    )
    limiter.init_app(flask_app)

    @flask_app.after_request
    def tell(response: Response) -> Response:
        if told := limiter.current_limits:
            nearest = min(told, key=lambda each: each.remaining / each.limit.amount)
            response.headers["X-RateLimit-Limit"] = str(nearest.limit.amount)
            response.headers["X-RateLimit-Remaining"] = str(nearest.remaining)
            response.headers["X-RateLimit-Reset"] = str(nearest.reset_at)
        return response

    def exceeded(error: RateLimitExceeded) -> Response:
        name, reached = str(error.limit.scope), limiter.current_limit
        seconds = max(1, math.ceil(reached.window.reset_time - time.time())) if reached else 60
        detail = f"More than {error.limit.limit.amount} requests a minute {_OF[name]}; try again in {seconds} seconds."
        return _refuse(RateLimited(detail, limit=name, retry_after=seconds))

    flask_app.register_error_handler(RateLimitExceeded, exceeded)


def _limits(settings: Limits) -> Iterator[ApplicationLimit]:
    """In this order: who is refused for a key has not counted for its owner."""

    def limit(name: str, rate: int, key: Callable[[], str], exempt: Callable[[], bool]) -> Iterator[ApplicationLimit]:
        if rate:
            yield ApplicationLimit(f"{rate}/minute", key_function=key, scope=name, exempt_when=exempt)

    yield from limit("key", settings.key_per_minute, lambda: f"key:{_caller().key}", lambda: _caller().key is None)
    yield from limit("user", settings.user_per_minute, lambda: f"user:{_caller().user}", lambda: _caller().user is None)
    yield from limit(
        "address",
        settings.address_per_minute,
        lambda: f"address:{network_of(request.remote_addr)}",
        lambda: _caller().user is not None,
    )


def _refuse(error: LimitReached) -> Response:
    record_refusal(error.limit)
    return problem_of(error)


def _unlimited() -> bool:
    """A preflight asks on behalf of a request that will be counted itself."""
    blueprint = _blueprint()
    return request.method == "OPTIONS" or (blueprint is not None and not blueprint.limited)


def _caller() -> _Caller:
    found: _Caller | None = request.environ.get(_CALLER)
    if found is None:
        found = request.environ[_CALLER] = _find_caller()
    return found


def _find_caller() -> _Caller:
    blueprint = _blueprint()
    if blueprint is None or blueprint.access in (Access.PUBLIC, Access.OPS):
        return _NOBODY
    with suppress(NotAuthenticated):  # which is said later, if there are not too many of these
        identity = claimed()
        if identity.key is None:
            return _Caller(identity.user_id)
        if services().key_uses.knows(identity):
            return _Caller(identity.user_id, identity.key.id)
    return _NOBODY


def _blueprint() -> Blueprint | None:
    found = current_app.blueprints.get(request.blueprint or "")
    return found if isinstance(found, Blueprint) else None


class _Limiter(Limiter):
    """flask-limiter, told once which limits there are: they hold for every route.

    Its own way puts them together anew for each request, in case they differ by route: 80 microseconds more.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._everywhere = self.limit_manager.application_limits

    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        if request.endpoint is None or _unlimited():
            return
        context = self.context
        for each in self._everywhere:
            if not each.is_exempt:
                key = [each.key_func(), str(each.scope)]
                told = RequestLimit(self, each.limit, key, False, each.shared)
                context.view_rate_limits.append(told)
                if not self.limiter.hit(each.limit, *key):
                    context.view_rate_limit, told.breached = told, True
                    raise RateLimitExceeded(each)


class _Counted(Storage):
    """Our counters as flask-limiter wants them: what it asks after counting was told with the count."""

    STORAGE_SCHEME = ["parley"]  # noqa: RUF012  # as the base has it

    def __init__(self, uri: str | None = None, *, counters: LimitCounters, **options: Any) -> None:
        super().__init__(uri, **options)
        self._counters = counters

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        [count] = self._counters.add([(key, expiry)])
        request.environ.setdefault(_COUNTED, {})[key] = (count.value, time.time() + count.left)
        return count.value

    def get(self, key: str) -> int:
        return int(request.environ[_COUNTED][key][0])

    def get_expiry(self, key: str) -> float:
        return float(request.environ[_COUNTED][key][1])

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        raise NotImplementedError

    def clear(self, key: str) -> None:
        self._counters.give_back([key])
