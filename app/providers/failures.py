"""From what went wrong at a provider to the ProviderError that says so: the only place that knows both sides.

    name look-up, refused, reset, TLS            ProviderUnreachable
    a deadline                                   ProviderTimedOut (raised by deadlines.py)
    400 401 402 403 404 413 422, 3xx, other 4xx  ProviderMisconfigured
    429 503 529                                  ProviderOverloaded, with Retry-After
    408 502 504 52x                              ProviderUnreachable: a gateway could not reach the model
    409, other 5xx                               ProviderBadAnswer, passing
    not the protocol                             ProviderBadAnswer

A detail is our own sentence, and perhaps the provider's message: shortened, on one line, without keys, and left out if
it quotes what a person wrote.
"""

import math
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead
from typing import Any

import orjson
from urllib3.exceptions import DecodeError, HTTPError

from app.errors import (
    ProviderBadAnswer,
    ProviderError,
    ProviderMisconfigured,
    ProviderOverloaded,
    ProviderUnreachable,
)
from app.providers.deadlines import Deadlines
from app.text import shortened, without_secrets

MESSAGE_CHARS = 200
RETRY_AFTER_SECONDS = 3600
_QUOTE_CHARS = 24  # a run of so many characters in common with a person's words counts as quoting them
_TOO_LONG = re.compile(
    r"context.{0,20}(length|window|size|limit)|maximum context|too many (input )?tokens|prompt is too long", re.I
)

_MISCONFIGURED = {
    400: "refused the request as invalid",
    401: "refused the key: check that it is right and still valid",
    402: "reports that the account has no credit left",
    403: "does not allow this request with this key",
    404: "knows no such model or URL: check AI_MODEL and the base URL",
    413: "finds the request too large",
    422: "refused the request as invalid",
}


class Explainer:
    """Puts errors into words for one call: knows which provider it is, its key, and what the people wrote."""

    def __init__(self, provider: str, model: str, key: str, texts: Sequence[str], deadlines: Deadlines) -> None:
        self._provider, self._key, self._texts, self._deadlines = provider, key, texts, deadlines
        self._model = shortened(model, 100)

    def broken(self, error: BaseException) -> ProviderError:
        """For what urllib3, the socket or TLS raised."""
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ProviderError):
                return cause
            if isinstance(cause, ssl.SSLCertVerificationError):
                return self._unreachable(
                    f"has a certificate that cannot be verified ({shortened(cause.verify_message, 100)}); "
                    "if it is your own authority's, name its file in SSL_CERT_FILE"
                )
            if isinstance(cause, ssl.SSLError):
                return self._unreachable("could not be spoken to over TLS: check the base URL and its port")
            if isinstance(cause, socket.gaierror | UnicodeError):
                return self._unreachable("has a host name that cannot be resolved: check the base URL and the network")
            if isinstance(cause, ConnectionRefusedError):
                return self._unreachable("refused the connection: check that it runs and the base URL is right")
            if isinstance(cause, TimeoutError):
                return self._deadlines.passed()
            if isinstance(cause, IncompleteRead):
                return self._unreachable("closed the connection in the middle of its answer")
            if isinstance(cause, ConnectionError):
                return self._unreachable("broke the connection")
            if isinstance(cause, OSError):
                return self._unreachable("cannot be reached from here: check the base URL and the network")
        if isinstance(error, DecodeError):
            return self.bad_answer("sent a compressed body that cannot be unpacked")
        if isinstance(error, HTTPError):
            return self.bad_answer("answered with something that is not HTTP: check the base URL and its port")
        return self.bad_answer("could not be understood")

    def bad_answer(self, what: str, said: str = "") -> ProviderBadAnswer:
        return ProviderBadAnswer(self._sentence(what, said))

    def status(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """For an answer that is not 200."""
        try:
            answer = orjson.loads(body)
            error = answer.get("error") or answer  # FastAPI and old vLLM have no object inside
        except (ValueError, AttributeError):
            error = None
        return self._by_status(status, error, retry_after(headers))

    def inside(self, error: Any) -> ProviderError:
        """For an error object inside a 200: its code may be an HTTP status, a word, or nothing."""
        fields = error if isinstance(error, dict) else {}
        code = f"{fields.get('code')} {fields.get('type')}"
        if status := re.match(r"[45]\d\d\b", code):
            return self._by_status(int(status[0]), error, None)
        for word, meant in (("rate_limit", 429), ("overloaded", 503), ("context_length", 400)):
            if word in code:
                return self._by_status(meant, error, None)
        return self.bad_answer("reports a failure", str(fields.get("message") or ""))

    def _by_status(self, status: int, error: Any, seconds: int | None) -> ProviderError:
        said, code = "", ""
        if isinstance(error, dict):
            said, code = (
                str(error.get("message") or error.get("detail") or ""),
                f"{error.get('code')} {error.get('type')}",
            )
        elif isinstance(error, str):
            said = error
        if status in (400, 413, 422) and ("context_length" in code or _TOO_LONG.search(said)):
            return ProviderMisconfigured(
                f"This conversation is longer than the model {self._model} of {self._provider} can read: "
                "start a new one, or choose a model that reads more."
            )
        if "insufficient_quota" in code:
            status = 402
        if status in (429, 503, 529):
            what = f"is limiting its callers ({status})" if status == 429 else f"is overloaded ({status})"
            return ProviderOverloaded(self._sentence(what, said), retry_after=seconds)
        if status in (408, 502, 504) or 520 <= status <= 526:
            return ProviderUnreachable(self._sentence(f"could not reach its model ({status})", said))
        if 300 <= status < 400:
            return ProviderMisconfigured(
                self._sentence(
                    f"redirects elsewhere ({status}), which is not followed: set the base URL to the new place", ""
                )
            )
        if status >= 500 or status in (409,) or status < 300:
            failed = self.bad_answer(f"failed ({status})", said)
            failed.passing = status >= 400
            return failed
        what = _MISCONFIGURED.get(status, "refused the request")
        if status == 404:
            what = f"{what} (model {self._model})"
        return ProviderMisconfigured(self._sentence(f"{what} ({status})", said))

    def _unreachable(self, what: str) -> ProviderUnreachable:
        return ProviderUnreachable(self._sentence(what, ""))

    def _sentence(self, what: str, said: str) -> str:
        said = shortened(without_secrets(said[: 10 * MESSAGE_CHARS], self._key), MESSAGE_CHARS)
        sentence = f"The provider {self._provider} {what}."
        return f"{sentence} It says: {said}" if said and not self._quotes(said) else sentence

    def _quotes(self, said: str) -> bool:
        runs = {said[start : start + _QUOTE_CHARS] for start in range(max(1, len(said) - _QUOTE_CHARS + 1))}
        for text in self._texts:
            line = " ".join(text.split())
            if (len(line) >= 4 and line in said) or any(run in line for run in runs):
                return True
        return False


def retry_after(headers: Mapping[str, str]) -> int | None:
    """Retry-After in whole seconds, 0 to 3600, from seconds or an HTTP date; None if absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):  # no date, or in a year that no calendar has
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else math.ceil(min(max(seconds, 0), RETRY_AFTER_SECONDS))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, and what lies under it: urllib3 wraps in arguments, `reason` and causes."""
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(seen) < 20:
        current = waiting.pop(0)
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [getattr(current, "reason", None), current.__cause__, *current.args]
