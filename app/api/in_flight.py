"""Bounds of what one web worker serves at once: streams, and other requests, of one caller and together.

A worker serves a limited number of connections. One caller must not occupy all of them, and all callers together must
leave room for health checks. A request ends here when the server has sent or dropped its response, in every case: the
server calls `close`, and a worker that is killed takes its counts with it. The bounds of a caller hold in each worker.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

from flask import Flask, Response, current_app, request

from app.api.access import caller, proven_identity
from app.api.blueprint import Blueprint
from app.config.server import MAX_OTHER_REQUESTS, Server
from app.errors import Overloaded, RateLimited, TooManyStreams
from app.metrics.http import record_stream_begun, record_stream_ended, record_streams_max
from app.services.addresses import network_of
from app.services.slots import Slots

if TYPE_CHECKING:  # these exist for type checkers only
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_PER_CALLER = 100  # requests other than streams of one user, or from one address without a token
RETRY_SECONDS = 2

_EXTENSION, _HELD = "parley.in_flight", "parley.held"  # in `Flask.extensions`, in the request's environment


class InFlight:
    """The slots of streams and of other requests in one application."""

    def __init__(self, settings: Server) -> None:
        self.streams_per_user = settings.streams_per_user
        self.streams = Slots(settings.streams_per_worker, settings.streams_per_user)
        self.requests = Slots(MAX_OTHER_REQUESTS, MAX_PER_CALLER)


class _Held:
    """The slot of one request."""

    def __init__(self) -> None:
        self._slots: Slots | None = None
        self._key = ""
        self.is_stream = False

    def hold(self, slots: Slots, key: str, *, is_stream: bool = False) -> None:
        """Keep a slot that was taken, instead of the previous one."""
        self.release()
        self._slots, self._key, self.is_stream = slots, key, is_stream

    def release(self) -> None:
        """Release the slot, if there is one."""
        if self._slots is not None:
            self._slots.release(self._key)
            self._slots = None
            if self.is_stream:
                record_stream_ended()


def init_app(flask_app: Flask, settings: Server) -> None:
    """Bound the requests that `flask_app` serves at once, except for health checks and metrics."""
    in_flight = flask_app.extensions[_EXTENSION] = InFlight(settings)
    record_streams_max(settings.streams_per_worker)
    flask_app.wsgi_app = _ReleasingMiddleware(flask_app.wsgi_app)  # type: ignore[method-assign]  # documented by Flask

    @flask_app.before_request
    def take_slot() -> None:
        blueprint = current_app.blueprints.get(request.blueprint or "")
        blueprint = blueprint if isinstance(blueprint, Blueprint) else None
        if blueprint is not None and blueprint.always_served:
            return
        identity = proven_identity(blueprint.access) if blueprint is not None else None
        if blueprint is not None and blueprint.streams and identity is not None:
            _refuse_early(in_flight, str(identity.user_id))
        key = f"address:{network_of(request.remote_addr)}" if identity is None else f"user:{identity.user_id}"
        in_flight.requests.take(key, full=_server_is_full, full_for_key=_too_many_requests)
        _held().hold(in_flight.requests, key)

    @flask_app.after_request
    def end_wait(response: Response) -> Response:
        """Release the slot of a stream whose response is complete: what took minutes was the wait for it."""
        held = _held()
        if held.is_stream and not response.is_streamed:
            held.release()
        return response


def hold_stream() -> None:
    """Count the current request as a stream of its caller: a response that may take minutes.

    Call it before anything is stored or begun. Raises `TooManyStreams` and `Overloaded`.
    """
    in_flight = cast(InFlight, current_app.extensions[_EXTENSION])
    key = str(caller().user_id)
    in_flight.streams.take(key, full=_server_is_full, full_for_key=lambda: _too_many_streams(in_flight))
    _held().hold(in_flight.streams, key, is_stream=True)
    record_stream_begun()


def _refuse_early(in_flight: InFlight, key: str) -> None:
    """Raise `TooManyStreams` before any access to Redis and the database: 2,000 such requests come at once."""
    if in_flight.streams.is_full_for(key):
        raise _too_many_streams(in_flight)


def _held() -> _Held:
    return cast(_Held, request.environ[_HELD])


def _server_is_full() -> Overloaded:
    return Overloaded("This server is sending as many responses as it may; try again.", retry_after=RETRY_SECONDS)


def _too_many_streams(in_flight: InFlight) -> TooManyStreams:
    limit = in_flight.streams_per_user
    detail = f"You are reading {limit} answers or exports at once, the limit of this server; end one of them first."
    return TooManyStreams(detail, retry_after=RETRY_SECONDS)


def _too_many_requests() -> RateLimited:
    detail = f"More than {MAX_PER_CALLER} requests at once; wait until some of them end."
    return RateLimited(detail, limit="concurrent", retry_after=RETRY_SECONDS)


class _ReleasingMiddleware:
    def __init__(self, inner: "WSGIApplication") -> None:
        self._inner = inner

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        held = environ[_HELD] = _Held()
        try:
            return _Body(self._inner(environ, start_response), held)
        except BaseException:
            held.release()
            raise


class _Body:
    """The unchanged response body; its `close` releases the slot."""

    def __init__(self, body: Iterable[bytes], held: _Held) -> None:
        self._body, self._held = body, held

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._held.release()

    def __del__(self) -> None:
        self._held.release()  # of a response that was dropped without `close`, which a test client does
