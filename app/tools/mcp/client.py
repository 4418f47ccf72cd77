"""The client of one MCP server: sends requests in the era of the protocol that the server implements.

Which one that is, is found once: by `server/discover` of 2026-07-28, else by `initialize`. Older servers may give a
session id. Each user gets a session of their own, so that a server that keeps a state shows it to one user only.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from time import monotonic
from typing import Any, Final

from mcp_types.jsonrpc import HEADER_MISMATCH, INVALID_PARAMS

from app.metrics.mcp import McpMethod, McpOutcome, record_mcp_request
from app.outbound.addresses import AddressPolicy
from app.outbound.cancellation import CancelToken
from app.outbound.deadlines import Deadlines
from app.outbound.errors import CircuitOpen, OutboundError
from app.outbound.timeouts import Timeouts
from app.outbound.transport import Transport
from app.tools.mcp.circuits import ServerCircuit
from app.tools.mcp.errors import McpError, of_outbound
from app.tools.mcp.requests import (
    HANDSHAKE_VERSIONS,
    MODERN_VERSION,
    Request,
    Session,
    initialize,
    is_session_id,
    notification,
    request,
)
from app.tools.mcp.responses import read_result
from app.tools.mcp.sessions import Sessions

CANCEL: Final = Timeouts(connect=2, first_token=2, idle=2, total=4)

SECRET: Final = 8  # characters; shorter parts of a header are words such as "Bearer"

_MODERN = Session(MODERN_VERSION)
_BAD_REQUEST, _NOT_FOUND = 400, 404


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The end of a call: a time of the monotonic clock, and a token that ends it sooner."""

    until: float = math.inf
    cancel_token: CancelToken | None = None


class McpClient:
    """Requests to one server. Thread-safe; connections and sessions are kept.

    `timeouts` are those to connect, for the response to one request (`first_token`), and for a call with its handshake
    (`total`). `version` is the version that the server was found to use before, if it is known. The circuit of a client
    for a single test, `is_test`, is not in the metrics.
    """

    def __init__(
        self,
        name: str,
        url: str,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        policy: AddressPolicy,
        version: str | None = None,
        *,
        is_test: bool = False,
    ) -> None:
        self._name, self._timeouts = name, timeouts
        self._transport = Transport(url, "", headers, policy)
        self._circuit = ServerCircuit(name, is_recorded=not is_test)
        self._modern: bool | None = None if version is None else version == MODERN_VERSION
        self._sessions = Sessions()
        self._secrets = [part for value in headers.values() for part in {value, *value.split()} if len(part) >= SECRET]

    def send(
        self,
        method: McpMethod,
        params: Mapping[str, Any],
        limits: CallLimits,
        *,
        user: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, Any], str]:
        """Send a request for `user` and return its result, with the version of the protocol. Raises `McpError`.

        Nothing is sent while the circuit is open. The request is repeated once if the server does not know its session
        or version, because it was not carried out then.
        """
        started = monotonic()
        limits = CallLimits(min(limits.until, started + self._timeouts.total), limits.cancel_token or CancelToken())
        try:
            with self._circuit.guard(lambda: self._is_fair(started, limits)):
                result = self._send(method, params, limits, user, headers)
        except CircuitOpen as error:
            record_mcp_request(self._name, method, "skipped")
            raise McpError(str(error), unreachable=True) from None
        except McpError as error:
            outcome: McpOutcome = "rejected" if error.alive else "failed"
            record_mcp_request(self._name, method, outcome, monotonic() - started)
            error.reason = self.redacted(error.reason)
            raise
        record_mcp_request(self._name, method, "ok", monotonic() - started)
        return result

    def redacted(self, text: str) -> str:
        """Return `text` without the values of the headers, which a server may send back."""
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text

    def _is_fair(self, started: float, limits: CallLimits) -> bool:
        """Return whether a failure is the server's: the caller gave it time and did not cancel."""
        cancelled = limits.cancel_token is not None and limits.cancel_token.cancelled
        return not cancelled and limits.until - started >= min(self._timeouts.first_token, self._timeouts.total)

    def _send(
        self, method: str, params: Mapping[str, Any], limits: CallLimits, user: str, headers: Mapping[str, str] | None
    ) -> tuple[dict[str, Any], str]:
        session = self._session(user, limits)
        try:
            return self._exchange(request(session, method, params, headers), session, limits)[0], session.version
        except McpError as error:
            if not _rejects_session(error, session):
                raise
            self._sessions.forget(user, session)
            if error.status != _NOT_FOUND:
                self._modern = None
        session = self._session(user, limits)
        return self._exchange(request(session, method, params, headers), session, limits)[0], session.version

    def _session(self, user: str, limits: CallLimits) -> Session:
        if self._modern:
            return _MODERN
        with self._sessions.of(user, limits.until) as entry:
            if entry.session is None and not self._modern:
                session = self._negotiate(limits)
                self._modern = session.is_modern
                entry.session = None if session.is_modern else session
            return entry.session or _MODERN

    def _negotiate(self, limits: CallLimits) -> Session:
        """Return the era of the server. Raises `McpError` if it has no known version, or cannot be reached."""
        expects_older = self._modern is False
        if not expects_older and self._discovers(limits):
            return _MODERN
        try:
            return self._initialize(limits)
        except McpError as error:
            if expects_older and not error.network and self._discovers(limits):  # it was upgraded
                return _MODERN
            raise

    def _discovers(self, limits: CallLimits) -> bool:
        """Return whether the server answers `server/discover` with the modern version; an older one rejects it."""
        try:
            result, _ = self._exchange(request(_MODERN, "server/discover", {}), _MODERN, limits)
        except McpError as error:
            if error.network:
                raise
            return False
        versions = result.get("supportedVersions")
        return isinstance(versions, list) and MODERN_VERSION in versions

    def _initialize(self, limits: CallLimits) -> Session:
        result, headers = self._exchange(initialize(), None, limits)
        version, session_id = result.get("protocolVersion"), headers.get("mcp-session-id") or None
        if version not in HANDSHAKE_VERSIONS:
            raise McpError("supports no version of the protocol that is known here", alive=True)
        if session_id is not None and not is_session_id(session_id):
            raise McpError("gave a session id that is not visible ASCII", alive=True)
        session = Session(version, session_id)
        self._notify(notification(session, "notifications/initialized", {}), self._deadlines(limits))
        return session

    def _exchange(
        self, sent: Request, session: Session | None, limits: CallLimits
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Send a request and return its result and the headers of its response. Raises `McpError`."""
        deadlines = self._deadlines(limits)
        try:
            body = self._transport.post_to_base(sent.content, deadlines, sent.headers)
            try:
                deadlines.expect_end(self._timeouts.first_token)
                return read_result(body, sent), body.headers
            finally:
                body.close()
        except (OutboundError, McpError) as caught:
            error = of_outbound(caught) if isinstance(caught, OutboundError) else caught
            if error.uncertain and session is not None and not session.is_modern:
                self._cancel_later(sent, session)
            raise error from None

    def _notify(self, sent: Request, deadlines: Deadlines) -> None:
        try:
            self._transport.post_to_base(sent.content, deadlines, sent.headers).finish()
        except OutboundError as error:
            raise of_outbound(error) from None

    def _cancel_later(self, sent: Request, session: Session) -> None:
        """Cancel `sent` at an older server, in the background; a newer one takes the closed connection for it."""
        cancelled = notification(session, "notifications/cancelled", {"requestId": sent.id})
        _in_background(lambda: self._notify(cancelled, Deadlines(CANCEL)))

    def _deadlines(self, limits: CallLimits) -> Deadlines:
        return Deadlines(self._timeouts, limits.cancel_token, limits.until)


def _rejects_session(error: McpError, session: Session) -> bool:
    """Return whether the server rejected the session or the version, and not what was requested."""
    if error.status == _BAD_REQUEST:
        return error.code not in (INVALID_PARAMS, HEADER_MISMATCH)
    return error.status == _NOT_FOUND and not session.is_modern


def _in_background(function: Callable[[], None]) -> None:
    def run() -> None:
        with suppress(McpError):
            function()

    with suppress(RuntimeError):  # the system allows no more threads
        Thread(target=run, name="mcp cancel", daemon=True).start()
