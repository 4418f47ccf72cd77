"""One file per entity. Importing this package imports all of them, which is what Alembic compares the database with."""

from app.models.api_key import ApiKey, KeyScope
from app.models.archive_run import ArchiveRun, ArchiveRunState
from app.models.audit_event import AuditEvent, AuditResult
from app.models.conversation import Conversation, ConversationStatus, ConversationStorage
from app.models.conversation_archive import ConversationArchive
from app.models.conversation_search import ConversationSearch
from app.models.erasure import Erasure
from app.models.erasure_under_way import ErasureUnderWay
from app.models.idempotency_key import IdempotencyKey
from app.models.job_run import JobRun, JobRunStatus
from app.models.legal_hold import LegalHold
from app.models.message import Message, MessageRole
from app.models.project import Project
from app.models.prompt import Prompt
from app.models.runtime_setting import RuntimeSetting
from app.models.session import Session
from app.models.turn import Turn, TurnStatus
from app.models.turn_event import TurnEventBatch
from app.models.user import User, UserRole, UserStatus

__all__ = [
    "ApiKey",
    "ArchiveRun",
    "ArchiveRunState",
    "AuditEvent",
    "AuditResult",
    "Conversation",
    "ConversationArchive",
    "ConversationSearch",
    "ConversationStatus",
    "ConversationStorage",
    "Erasure",
    "ErasureUnderWay",
    "IdempotencyKey",
    "JobRun",
    "JobRunStatus",
    "KeyScope",
    "LegalHold",
    "Message",
    "MessageRole",
    "Project",
    "Prompt",
    "RuntimeSetting",
    "Session",
    "Turn",
    "TurnEventBatch",
    "TurnStatus",
    "User",
    "UserRole",
    "UserStatus",
]
