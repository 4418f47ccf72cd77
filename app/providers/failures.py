"""Translation of a provider's failures into ProviderErrors.

    ConnectFailed, ConnectionLost                ProviderUnreachable
    DeadlineExceeded                             ProviderTimedOut
    400 401 402 403 404 413 422, 3xx, other 4xx  ProviderMisconfigured
    429 503 529                                  ProviderOverloaded, with Retry-After
    408 502 504 52x                              ProviderUnreachable: a gateway could not reach the model
    409, other 5xx                               ProviderProtocolError, transient
    not the protocol                             ProviderProtocolError

The detail, which users see, is a sentence of Parley's. The provider's message is not in it: it can contain keys, hosts
and accounts of any shape. It is logged, under the id of the request, and is the error's `reason` for operators: on one
line, without keys, and omitted if it quotes a user's text.
"""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import orjson

from app.errors import (
    ProviderError,
    ProviderMisconfigured,
    ProviderOverloaded,
    ProviderProtocolError,
    ProviderTimedOut,
    ProviderUnreachable,
)
from app.outbound.errors import ConnectFailed, ConnectionLost, DeadlineExceeded, OutboundError, translate
from app.providers.error_bodies import json_text, reason_of
from app.text import shortened, without_secrets

MESSAGE_CHARS = 4000
RETRY_AFTER_SECONDS = 3600
_SEE_LOG = "An operator finds its message in the log, under the id of this request."
_QUOTE_CHARS = 24  # a common run of this length counts as a quotation
_TOO_LONG = re.compile(
    r"context.{0,20}(length|window|size|limit)|maximum context|too many (input )?tokens|(prompt|input) is too long"
    r"|(maximum|max) (prompt|input|model) length|range of input length|token count.{0,40} exceeds|tokens exceed"
    r"|max_new_tokens.{0,3} must be|reduce the length|too large for model|too many total text bytes",
    re.I,
)

E = TypeVar("E", bound=ProviderError)

_MISCONFIGURED = {
    400: "rejected the request as invalid",
    401: "rejected the key: check that it is right and still valid",
    402: "reports that the account has no credit left",
    403: "does not allow this request with this key",
    404: "does not know the model or URL: check AI_MODEL and the base URL",
    413: "rejected the request as too large",
    422: "rejected the request as invalid",
}


_log = logging.getLogger("parley.providers")


class ErrorTranslator:
    """Makes the ProviderErrors of one call, without its `key` and without the users' `texts`."""

    def __init__(self, provider: str, model: str, key: str, texts: Sequence[str]) -> None:
        self._provider, self._key, self._texts = provider, key, texts
        self._model = shortened(model, 100)

    def from_outbound(self, error: OutboundError) -> ProviderError:
        """Return the error for a failed HTTP call."""
        if isinstance(error, DeadlineExceeded):
            timed_out = self._error(ProviderTimedOut, str(error))
            timed_out.transient = error.connecting  # nothing was sent yet, and one lost packet may be the cause
            return timed_out
        kind = ProviderUnreachable if isinstance(error, ConnectFailed | ConnectionLost) else ProviderProtocolError
        return self._error(kind, str(error), error.reason)

    def from_exception(self, error: Exception) -> ProviderError:
        """Return the error for a connection error of another HTTP client, by its causes."""
        return self.from_outbound(translate(error, lambda: DeadlineExceeded("did not answer in time")))

    def protocol_error(self, problem: str, message: str = "") -> ProviderProtocolError:
        """Return the error for an invalid answer. `problem` is a predicate, `message` the provider's own text."""
        return self._error(ProviderProtocolError, problem, message)

    def from_status(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Return the error for a response with another status than 200."""
        try:
            error = orjson.loads(body)
        except ValueError:
            error = None
        return self._by_status(status, error, retry_after(headers), body.decode("utf-8", "replace"))

    def from_in_band(self, error: Any, problem: str = "reports a failure") -> ProviderError:
        """Return the error for an error object inside a 200: its code may be an HTTP status, a word, or absent.

        `problem` is the predicate if it says nothing more exact.
        """
        message, code = reason_of(error)
        if status := re.search(r"\b[45]\d\d\b", code):
            return self._by_status(int(status[0]), error, None)
        for word, equivalent in (("rate_limit", 429), ("overloaded", 503), ("context_length", 400)):
            if word in code:
                return self._by_status(equivalent, error, None)
        if _TOO_LONG.search(message):
            return self._by_status(400, error, None)
        return self.protocol_error(problem, message or json_text(error))

    def _by_status(self, status: int, error: Any, seconds: int | None, body: str = "") -> ProviderError:
        message, code = reason_of(error or body)
        if status in (400, 413, 422, 500) and ("context_length" in code or _TOO_LONG.search(message)):
            return ProviderMisconfigured(
                f"This conversation is longer than the context of the model {self._model} of {self._provider}: "
                "start a new one, or choose a model with a larger context."
            )
        if "insufficient_quota" in code:
            status = 402
        message = message or body
        if status in (429, 503, 529):
            problem = f"is limiting its callers ({status})" if status == 429 else f"is overloaded ({status})"
            overloaded = self._error(ProviderOverloaded, problem, message)
            overloaded.retry_after = seconds
            return overloaded
        if status in (408, 502, 504) or 520 <= status <= 526:
            return self._error(ProviderUnreachable, f"could not reach its model ({status})", message)
        if 300 <= status < 400:
            problem = f"redirects to another URL ({status}), which is not followed: change the base URL"
            return self._error(ProviderMisconfigured, problem, message)
        if status >= 500 or status in (409,) or status < 300:
            failed = self.protocol_error(f"failed ({status})", message)
            failed.transient = status >= 400
            return failed
        problem = _MISCONFIGURED.get(status, "rejected the request")
        if status == 404:
            problem = f"{problem} (model {self._model})"
        return self._error(ProviderMisconfigured, f"{problem} ({status})", message)

    def _error(self, kind: type[E], problem: str, message: str = "") -> E:
        """Return an error whose detail is about the `problem`, a predicate, and log the provider's `message`."""
        sentence = f"The provider {self._provider} {problem}."
        reason = shortened(without_secrets(message[: 2 * MESSAGE_CHARS], self._key), MESSAGE_CHARS)
        if not reason or self._quotes_user(reason):
            return kind(sentence)
        _log.warning("%s Its message: %s", sentence, reason, extra={"provider": self._provider})
        error = kind(f"{sentence} {_SEE_LOG}")
        error.reason = reason
        return error

    def _quotes_user(self, message: str) -> bool:
        runs = {message[start : start + _QUOTE_CHARS] for start in range(max(1, len(message) - _QUOTE_CHARS + 1))}
        for text in self._texts:
            line = " ".join(text.split())
            if (len(line) >= 4 and line in message) or any(run in line for run in runs):
                return True
        return False


def retry_after(headers: Mapping[str, str]) -> int | None:
    """Return Retry-After in seconds, 0 to 3600, from seconds or an HTTP date; None if absent or invalid."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):  # not a date, or in a year outside the calendar
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else math.ceil(min(max(seconds, 0), RETRY_AFTER_SECONDS))
