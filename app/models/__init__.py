"""ORM models, one module per table. The package imports all of them, because Alembic compares their metadata.

Import `Base` from here: its metadata is complete only after the import of all modules.
"""

from app.extensions import Base
from app.models.api_key import ApiKey
from app.models.archive_run import ArchiveRun
from app.models.audit_event import AuditEvent
from app.models.audit_seal import AuditSeal
from app.models.check_acknowledgement import CheckAcknowledgement
from app.models.conversation import Conversation
from app.models.conversation_archive import ConversationArchive
from app.models.conversation_search import ConversationSearch
from app.models.erasure import Erasure
from app.models.file import File, FileContent, FileRemoval
from app.models.file_text import FilePassage, FileText
from app.models.idempotency_key import IdempotencyKey
from app.models.job_cancellation import JobCancellation
from app.models.job_run import JobRun
from app.models.lease import Lease
from app.models.legal_hold import LegalHold
from app.models.mcp_server import McpServer
from app.models.message import Message
from app.models.password_reset import PasswordReset
from app.models.pending_erasure import PendingErasure
from app.models.project import Project
from app.models.prompt import Prompt
from app.models.prompt_version import PromptVersion
from app.models.provider_file import ProviderFile, ProviderFileRemoval
from app.models.runtime_setting import RuntimeSetting
from app.models.search_document import SearchDocument
from app.models.session import Session
from app.models.stored_bytes import StoredBytes
from app.models.todo import Todo
from app.models.tool_call import ToolCallRecord
from app.models.turn import Turn
from app.models.turn_event import TurnEventBatch
from app.models.user import User

__all__ = [
    "ApiKey",
    "ArchiveRun",
    "AuditEvent",
    "AuditSeal",
    "Base",
    "CheckAcknowledgement",
    "Conversation",
    "ConversationArchive",
    "ConversationSearch",
    "Erasure",
    "File",
    "FileContent",
    "FilePassage",
    "FileRemoval",
    "FileText",
    "IdempotencyKey",
    "JobCancellation",
    "JobRun",
    "Lease",
    "LegalHold",
    "McpServer",
    "Message",
    "PasswordReset",
    "PendingErasure",
    "Project",
    "Prompt",
    "PromptVersion",
    "ProviderFile",
    "ProviderFileRemoval",
    "RuntimeSetting",
    "SearchDocument",
    "Session",
    "StoredBytes",
    "Todo",
    "ToolCallRecord",
    "Turn",
    "TurnEventBatch",
    "User",
]
