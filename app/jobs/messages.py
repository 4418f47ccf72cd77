"""The message of one run of a job, and the queues for it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from app.logs import request_id
from app.trace_context import TraceContext, trace_context

INTERACTIVE, MAINTENANCE = "interactive", "maintenance"  # queues for jobs of requests, and for jobs of beat
QUEUES = (INTERACTIVE, MAINTENANCE)


@dataclass(frozen=True, slots=True)
class Message:
    """One run of a job: its wire name, its arguments (ids and other JSON values), and the request that enqueued it.

    `slot` is the scheduled time of a run that catches up.
    """

    name: str
    arguments: dict[str, Any]
    queue: str = INTERACTIVE
    request_id: str = field(default_factory=request_id.get)
    trace: TraceContext | None = field(default_factory=trace_context.get)
    id: UUID = field(default_factory=uuid4)
    slot: datetime | None = None
