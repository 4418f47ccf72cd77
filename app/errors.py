"""All errors that Parley reports, as one class tree.

    ParleyError
    ├── SettingsError                invalid or missing setting; the process does not start
    ├── InvalidInput                 malformed or out-of-bounds request
    │   ├── TooLarge                 well formed, but above a size limit
    │   ├── UnsupportedFile          a file whose content is of a type that is not accepted
    │   └── BodyTimeout              the body did not arrive in time
    ├── NotAuthenticated             no token, an invalid one, or one whose session has ended
    ├── PermissionDenied             authenticated, but not allowed
    ├── NotFound                     absent, or owned by another user: the responses are identical
    ├── Conflict                     not possible in the current state
    │   ├── EmailTaken
    │   ├── UserHeld                 a legal hold keeps the user's data
    │   ├── MailOff                  this server sends no mail
    │   ├── ConversationBusy         another turn is running in this conversation
    │   ├── ConversationAdvanced     later messages exist, so the turn cannot run again
    │   ├── RequestInProgress        a request with the same idempotency key is in progress
    │   ├── CallCancelled            the caller has cancelled the call; nothing of it is stored
    │   ├── TurnEnded                a ticket for the stream of a turn that ended too long ago
    │   ├── TurnFenced               another process closed the attempt; its answer is discarded
    │   └── OwnSessionRequired       an operation needs a session of the database that no pooler shares
    ├── IdempotencyMismatch          the idempotency key was used for a different request
    ├── LimitReached                 one caller has reached a limit; other callers are not affected
    │   ├── RateLimited              too many requests per minute
    │   ├── TooManyAttempts          too many failed logins or registrations
    │   ├── TooManyTurns             the user's limit of running turns is reached
    │   ├── TooManyStreams           the user reads as many streams as one process allows
    │   ├── QuotaExceeded            the daily tokens are used, or reserved by running turns
    │   ├── TooManyFiles             the user has as many files, or uploads as many at once, as allowed
    │   └── StorageLimitReached      the user stores as many bytes as allowed
    ├── StorageFull                  the database has no room for more
    ├── Unavailable                  temporary; a retry may succeed
    │   ├── TurnInterrupted          the process that ran the turn stopped
    │   ├── Overloaded               a bounded queue or pool is full
    │   ├── DatabaseUnavailable
    │   ├── FileStoreUnavailable     the store of uploaded files
    │   ├── Locked                   another operation holds a lock for longer than the lock timeout
    │   └── ArchiveDamaged           the bundle with the messages is missing or corrupt
    └── ProviderError                the AI provider did not answer
        ├── ProviderMisconfigured    wrong key, unknown model, or a request that the provider rejects as invalid
        ├── ProviderUnreachable      no connection, or it broke
        ├── ProviderTimedOut         connect, first-token, idle or total timeout
        ├── ProviderOverloaded       429 or 503 from the provider
        ├── ProviderCircuitOpen      requests are paused after repeated failures
        └── ProviderProtocolError    5xx, or a response that violates the protocol

This module is independent of HTTP: only `app/api/errors.py` assigns status codes.
"""

from collections.abc import Mapping, Sequence


class ParleyError(Exception):
    """Base class of all errors that are reported to callers.

    `code` is the stable, machine-readable name in problem+json and of a failed turn. `detail` is a sentence for people:
    what is wrong, where, and what to do. `fields` maps a field's path to its messages. `retry_after` is in whole
    seconds, where waiting helps. `about` holds the ids of the affected objects.
    """

    code = "internal_error"
    default_detail = "An internal error occurred; report it with the request id."

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
    default_detail = "A setting is missing or invalid."


class InvalidInput(ParleyError):
    code = "invalid_input"
    default_detail = "The request is invalid; see `errors` for each field."


class TooLarge(InvalidInput):
    code = "too_large"
    default_detail = "The request is larger than this server accepts."


class UnsupportedFile(InvalidInput):
    code = "unsupported_file"
    default_detail = "Files of this type are not accepted."


class BodyTimeout(InvalidInput):
    code = "too_slow"
    default_detail = "The request body did not arrive in time; send it again."


class NotAuthenticated(ParleyError):
    code = "not_authenticated"
    default_detail = "A valid access token is required: send `Authorization: Bearer <token>` from login or refresh."


class PermissionDenied(ParleyError):
    code = "not_allowed"
    default_detail = "Your account is not allowed to do this."


class NotFound(ParleyError):
    code = "not_found"
    default_detail = "This does not exist, or it belongs to another user."


class Conflict(ParleyError):
    code = "conflict"
    default_detail = "This is not possible in the current state."


class EmailTaken(Conflict):
    code = "email_taken"
    default_detail = "An account with this email address already exists; log in instead."


class UserHeld(Conflict):
    code = "account_held"
    default_detail = "A legal hold keeps this account's data."


class MailOff(Conflict):
    code = "mail_off"
    default_detail = "This server sends no mail; ask an operator for a token that resets your password."


class ConversationBusy(Conflict):
    code = "conversation_busy"
    default_detail = "Another turn is running in this conversation; wait for its end or cancel it."


class ConversationAdvanced(Conflict):
    code = "conversation_moved_on"
    default_detail = "Later messages exist in this conversation, so this turn cannot run again; send a new message."


class TurnEnded(Conflict):
    code = "turn_ended"
    default_detail = "The turn has ended."


class CallCancelled(Conflict):
    code = "call_cancelled"
    default_detail = "The call was stopped before its end, so it changed nothing."


class TurnFenced(Conflict):
    code = "turn_fenced"
    default_detail = "Another process closed this attempt, so its answer was discarded; get the turn for its status."


class RequestInProgress(Conflict):
    code = "request_under_way"
    default_detail = "A request with this Idempotency-Key is in progress; send it again in a moment."


class IdempotencyMismatch(ParleyError):
    code = "idempotency_mismatch"
    default_detail = "This Idempotency-Key was used for a different request; use a new key for a new request."


class LimitReached(ParleyError):
    """A limit of one caller. `limit` is its name in the metrics."""

    code = "limit_reached"
    default_detail = "You have reached a limit; try again later."
    limit = ""

    def __init__(self, detail: str | None = None, *, limit: str | None = None, retry_after: int | None = None) -> None:
        self.limit = limit or self.limit
        super().__init__(detail, retry_after=retry_after)


class RateLimited(LimitReached):
    code = "rate_limited"
    default_detail = "Too many requests; try again later."
    limit = "user"


class TooManyAttempts(LimitReached):
    code = "too_many_attempts"
    default_detail = "Too many attempts; try again later."
    limit = "login"


class TooManyTurns(LimitReached):
    limit = "turns"
    code = "too_many_turns"
    default_detail = "You have reached the limit of running turns; wait until one ends, or cancel one."


class TooManyStreams(LimitReached):
    limit = "streams"
    code = "too_many_streams"
    default_detail = "You are reading as many answers and exports at once as allowed; end one of them first."


class QuotaExceeded(LimitReached):
    limit = "tokens"
    code = "quota_exceeded"
    default_detail = "Your daily tokens are used up; the quota resets at midnight UTC."


class TooManyFiles(LimitReached):
    limit = "files"
    code = "too_many_files"
    default_detail = "You have as many files as allowed; delete some of them first."


class StorageLimitReached(LimitReached):
    limit = "bytes"
    code = "storage_limit_reached"
    default_detail = "You have reached the limit of stored bytes; delete conversations, or ask an operator."


class StorageFull(ParleyError):
    """The disk of the database, or the database's own limit, has no room. Reading and deleting still work."""

    code = "storage_full"
    default_detail = (
        "The server has no room for new messages, so nothing was saved. Running turns finish, and everything can be"
        " read and deleted; an operator must make room."
    )


class OwnSessionRequired(Conflict):
    """The connection goes through a pooler, and the operation needs a session of its own. Nothing was done."""

    code = "own_session_required"
    default_detail = (
        "This needs a database session of its own, and the connection goes through a pooler, so nothing was done."
        " Set DATABASE_DIRECT_URL to the PostgreSQL server itself."
    )


class Unavailable(ParleyError):
    code = "unavailable"
    default_detail = "The server is temporarily unavailable; try again shortly."


class TurnInterrupted(Unavailable):
    code = "interrupted"
    default_detail = "The server stopped before the answer was complete; send the message again."


class Overloaded(Unavailable):
    code = "overloaded"
    default_detail = "The server is busy; try again shortly."


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    default_detail = "The database is unavailable; nothing was saved. Try again shortly."


class FileStoreUnavailable(Unavailable):
    code = "file_store_unavailable"
    default_detail = "The store of files is unavailable; nothing was saved. Try again shortly."


class Locked(Unavailable):
    """A row that another operation has locked for longer than a statement waits."""

    code = "locked"
    default_detail = "This is locked by another operation, so nothing was saved; try again in a moment."

    @classmethod
    def of(cls, noun: str | None) -> "Locked":
        """Return the error for a locked `noun`, such as "conversation"; None: not known."""
        return cls(cls.default_detail.replace("This", f"The {noun}") if noun else None, retry_after=1)


class ArchiveDamaged(Unavailable):
    """A bundle that cannot be read. `reason` is for operators."""

    code = "archive_damaged"
    default_detail = (
        "The archived messages of this conversation are damaged and can be neither read nor changed; an operator must"
        " restore them from a backup."
    )
    reason = "it has no bundle"


class ProviderError(ParleyError):
    """A failure of an AI provider. `transient` is true if a retry may succeed.

    `reason` is what the provider or the network said. It can name hosts and accounts, so only operators may see it.
    """

    transient = False
    reason = ""
    code = "provider_error"
    default_detail = "The AI provider did not answer."

    @property
    def full_detail(self) -> str:
        """The detail with the reason, for operators."""
        return f"{self.detail} Its message: {self.reason}" if self.reason else self.detail


class ProviderMisconfigured(ProviderError):
    code = "provider_misconfigured"
    default_detail = "The AI provider rejected the request because of this server's configuration; ask an operator."


class ProviderUnreachable(ProviderError):
    transient = True
    code = "provider_unreachable"
    default_detail = "The AI provider is unreachable, or the connection to it broke."


class ProviderTimedOut(ProviderError):
    code = "provider_timeout"
    default_detail = "The AI provider did not answer in time."


class ProviderOverloaded(ProviderError):
    transient = True
    code = "provider_overloaded"
    default_detail = "The AI provider limits its requests at the moment; try again shortly."


class ProviderCircuitOpen(ProviderError):
    code = "provider_circuit_open"
    default_detail = "Requests to the AI provider are paused after repeated failures; try again shortly."


class ProviderProtocolError(ProviderError):
    code = "provider_bad_answer"
    default_detail = "The AI provider sent an invalid response."


def error_from_code(code: str, detail: str) -> ParleyError:
    """Return the error stored as `code` and `detail`; a plain `ParleyError` if the code no longer exists."""
    classes = [ParleyError]
    while classes:
        error_class = classes.pop()
        if error_class.__dict__.get("code") == code:
            return error_class(detail)
        classes += error_class.__subclasses__()
    return ParleyError(detail)
