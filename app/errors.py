"""Everything Parley can refuse or fail at, as one tree.

    ParleyError
    ├── SettingsError            a wrong or missing setting; the process does not start
    ├── InvalidInput             what was sent cannot be understood or is out of bounds
    │   ├── TooLarge             it is well formed, but over a size limit
    │   └── TooSlow              it did not arrive in time
    ├── NotAuthenticated         no token, a wrong one, or one whose session has ended
    ├── NotAllowed               known caller, but not for this
    ├── NotFound                 absent, or somebody else's: the two look the same
    ├── Conflict                 well formed, but not in this state
    │   ├── EmailTaken
    │   ├── ConversationBusy     another turn is running in this conversation
    │   ├── ConversationMovedOn  later messages exist, so the turn cannot run again
    │   ├── RequestUnderWay      the same request is being answered
    │   └── TurnFenced           the attempt was closed by somebody else; its answer is dropped
    ├── IdempotencyMismatch      the key was used before for another request
    ├── LimitReached             one caller's share is used up; others go on
    │   ├── RateLimited          too many requests in a minute
    │   ├── TooManyAttempts      too many wrong passwords, or accounts opened
    │   ├── TooManyTurns         as many turns are running as one user may have
    │   └── QuotaExceeded        the day's tokens are used, or promised to turns that are running
    ├── Unavailable              try again later
    │   ├── TurnInterrupted      the process that was answering had to stop
    │   ├── Overloaded           a bounded queue or pool is full
    │   ├── DatabaseUnavailable
    │   └── ArchiveDamaged       the messages are in a bundle that is not what was stored
    └── ProviderError            the AI provider did not answer
        ├── ProviderMisconfigured    wrong key, unknown model, request refused as such
        ├── ProviderUnreachable      no connection, or it broke
        ├── ProviderTimedOut         connect, first token, idle or total deadline passed
        ├── ProviderOverloaded       429 or 503 from the provider
        ├── ProviderCircuitOpen      it failed so often that it is left alone for a while
        └── ProviderBadAnswer        5xx, or something that is not its protocol

Nothing here knows HTTP: `app/api/errors.py` alone says which status each of them has.
"""

from collections.abc import Mapping, Sequence


class ParleyError(Exception):
    """Base of the tree.

    `code` is the stable, machine-readable name shown in problem+json and stored with a failed turn; `detail` is a
    sentence for a person: what is wrong, where, and what to do. `fields` maps a field's path to its complaints.
    `retry_after` is in whole seconds, where waiting is known to help. `about` holds the ids of what it happened to.
    """

    code = "internal_error"
    default_detail = "Something went wrong on our side."

    def __init__(
        self,
        detail: str | None = None,
        *,
        fields: Mapping[str, Sequence[str]] | None = None,
        retry_after: int | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or self.default_detail
        self.fields = fields
        self.retry_after = retry_after
        self.about = about
        super().__init__(self.detail)


class SettingsError(ParleyError):
    code = "invalid_settings"
    default_detail = "A setting is missing or wrong."


class InvalidInput(ParleyError):
    code = "invalid_input"
    default_detail = "The request is not valid; see `errors` for each field."


class TooLarge(InvalidInput):
    code = "too_large"
    default_detail = "The request is larger than this server accepts."


class TooSlow(InvalidInput):
    code = "too_slow"
    default_detail = "The request's body did not arrive in time; send it again."


class NotAuthenticated(ParleyError):
    code = "not_authenticated"
    default_detail = "A valid access token is needed: send `Authorization: Bearer <token>` from login or refresh."


class NotAllowed(ParleyError):
    code = "not_allowed"
    default_detail = "Your account may not do this."


class NotFound(ParleyError):
    code = "not_found"
    default_detail = "There is nothing here that you can see."


class Conflict(ParleyError):
    code = "conflict"
    default_detail = "This cannot be done in the present state."


class EmailTaken(Conflict):
    code = "email_taken"
    default_detail = "An account with this email address exists already; log in instead."


class ConversationBusy(Conflict):
    code = "conversation_busy"
    default_detail = "Another turn is running in this conversation; wait for its end or cancel it."


class ConversationMovedOn(Conflict):
    code = "conversation_moved_on"
    default_detail = "Later messages exist in this conversation, so this turn cannot run again; send a new message."


class TurnFenced(Conflict):
    code = "turn_fenced"
    default_detail = "Another process closed this attempt, so its answer was dropped; read the turn for its state."


class RequestUnderWay(Conflict):
    code = "request_under_way"
    default_detail = "A request with this Idempotency-Key is being answered; send it again in a moment."


class IdempotencyMismatch(ParleyError):
    code = "idempotency_mismatch"
    default_detail = (
        "This Idempotency-Key was used before with another body or for another path; use a new key for a new request."
    )


class LimitReached(ParleyError):
    """`limit` says which, by its name in the metrics."""

    code = "limit_reached"
    default_detail = "You have used your share for now; wait a little."
    limit = ""

    def __init__(self, detail: str | None = None, *, limit: str | None = None, retry_after: int | None = None) -> None:
        self.limit = limit or self.limit
        super().__init__(detail, retry_after=retry_after)


class RateLimited(LimitReached):
    code = "rate_limited"
    default_detail = "More requests came from you than this server takes; wait a little."
    limit = "user"


class TooManyAttempts(LimitReached):
    code = "too_many_attempts"
    default_detail = "This went wrong too often; wait a while."
    limit = "login"


class TooManyTurns(LimitReached):
    limit = "turns"
    code = "too_many_turns"
    default_detail = "You have as many turns running as one user may; wait for the end of one or cancel it."


class QuotaExceeded(LimitReached):
    limit = "tokens"
    code = "quota_exceeded"
    default_detail = "Your tokens for today are used up; the quota is renewed at midnight UTC."


class Unavailable(ParleyError):
    code = "unavailable"
    default_detail = "The server cannot do this just now; try again shortly."


class TurnInterrupted(Unavailable):
    code = "interrupted"
    default_detail = "The process that was answering had to stop; send the message again."


class Overloaded(Unavailable):
    code = "overloaded"
    default_detail = "The server is busy; try again shortly."


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    default_detail = "The database does not answer; nothing was saved. Try again shortly."


class ArchiveDamaged(Unavailable):
    """`why` is for operators."""

    code = "archive_damaged"
    default_detail = (
        "The archived messages of this conversation are damaged, so they are neither shown nor changed; an operator"
        " must bring them back from a backup."
    )
    why = "it has no bundle"


class ProviderError(ParleyError):
    """`passing` is true where the same request may well be answered a moment later."""

    passing = False
    code = "provider_error"
    default_detail = "The AI provider did not answer."


class ProviderMisconfigured(ProviderError):
    code = "provider_misconfigured"
    default_detail = "The AI provider refused the request as this server is configured; an operator must look."


class ProviderUnreachable(ProviderError):
    passing = True
    code = "provider_unreachable"
    default_detail = "The AI provider could not be reached, or the connection to it broke."


class ProviderTimedOut(ProviderError):
    code = "provider_timeout"
    default_detail = "The AI provider did not answer within its deadline."


class ProviderOverloaded(ProviderError):
    passing = True
    code = "provider_overloaded"
    default_detail = "The AI provider is limiting its callers; try again shortly."


class ProviderCircuitOpen(ProviderError):
    code = "provider_circuit_open"
    default_detail = "The AI provider has failed too often and is left alone for a while; try again shortly."


class ProviderBadAnswer(ProviderError):
    code = "provider_bad_answer"
    default_detail = "The AI provider answered with something that could not be understood."


def error_of(code: str, detail: str) -> ParleyError:
    """The error that was stored as `code` and `detail`; a plain `ParleyError` for a code that is no more."""
    kinds = [ParleyError]
    while kinds:
        kind = kinds.pop()
        if kind.__dict__.get("code") == code:
            return kind(detail)
        kinds += kind.__subclasses__()
    return ParleyError(detail)
