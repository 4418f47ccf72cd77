"""Enumerations whose values are stored in the database and appear in the API."""

import enum


class UserRole(enum.StrEnum):
    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"


class UserStatus(enum.StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


class KeyScope(enum.StrEnum):
    CHAT = "chat"
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class ResponseFormatType(enum.StrEnum):
    """The form of an answer's text, by OpenAI's names."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


class ConversationStatus(enum.StrEnum):
    """The list in which the owner sees the conversation."""

    ACTIVE = "active"
    ARCHIVED = "archived"


class ConversationStorage(enum.StrEnum):
    """The place of the messages: rows of the live table, or one compressed bundle."""

    LIVE = "live"
    BUNDLED = "bundled"


class MessageRole(enum.StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class TurnStatus(enum.StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class ToolCallState(enum.StrEnum):
    BEGUN = "begun"
    DONE = "done"  # its result is stored
    UNKNOWN = "unknown"  # it failed, but may have had its effect


class ProviderFileState(enum.StrEnum):
    """The state of a copy of a file at a provider."""

    PENDING = "pending"
    UPLOADED = "uploaded"
    FAILED = "failed"
    REMOVING = "removing"  # it is not wanted any more, and a job deletes it at the provider


class FileTextState(enum.StrEnum):
    """The state of the text of a file; a file whose type has no text has none."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class FileTextFailure(enum.StrEnum):
    """Reasons for which the text of a file is missing."""

    ENCRYPTED = "encrypted"  # a password is needed
    BROKEN = "broken"  # not what its type says, or cut
    TOO_LARGE = "too_large"  # when it is unpacked
    MEMORY = "memory"
    TIME = "time"
    CRASHED = "crashed"  # the process that read it ended early
    MISSING = "missing"  # the store does not have the content


class JobRunStatus(enum.StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  # another run is in progress or has just succeeded
    LOST = "lost"  # its worker process ended
    CANCELLED = "cancelled"  # by an operator, before or while it ran


class AuditResult(enum.StrEnum):
    BEGUN = "begun"  # in progress; if it stays so, the process ended
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class ArchiveRunState(enum.StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"  # all conversations are processed
    STOPPED = "stopped"  # by its limit of time or messages; can be resumed, as can the next two
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # its process ended
