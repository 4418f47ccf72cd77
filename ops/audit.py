"""The audit: every act of an operator is written down before it is done, and again when it has ended.

with audited(by=actor, action="user.disable", on=str(user_id)) as notes:
    notes["sessions"] = disable(...)
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from app.errors import ParleyError, Unavailable
from app.logs import redact, request_id
from app.models.audit_event import AUDIT_REASON_LIMIT, AuditResult
from app.models.columns import new_id
from app.repositories import audit_events as sql
from ops.actors import Actor
from ops.care.batches import autocommit
from ops.runs import DATABASE_AWAY

KEEP_TRYING = 10.0  # seconds to write down how an act ended

_log = logging.getLogger("parley.ops")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedAct:
    """One act, as it was written down."""

    id: UUID
    created_at: datetime
    actor_kind: str
    actor: str
    address: str | None
    action: str
    target: str | None
    result: str
    reason: str | None
    details: dict[str, Any]
    request_id: str | None


@contextmanager
def audited(
    *, by: Actor, action: str, on: str | None = None, details: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Write down that `by` does `action` (noun.verb) to `on`; gives a dict for what else is to be kept of it.

    An act that cannot be written down is not done. What an act raises is noted and passed on. While the database is
    away its end is tried again for `KEEP_TRYING` seconds; then the log has it, and whoever acted hears of it anyway.
    """
    notes, event = dict(details or {}), new_id()
    begun = {
        "id": event,
        "actor_kind": by.kind,
        "actor": by.name[:255],
        "actor_id": by.user_id,
        "address": by.address,
        "action": action,
        "target": on[:255] if on else None,
        "details": _json(notes),
        "request_id": request_id.get() or None,
    }
    with autocommit() as connection:
        sql.BEGIN.one(connection, begun)
    result, reason = AuditResult.FAILED, "it did not come to an end"
    try:
        yield notes
        result, reason = AuditResult.DONE, ""
    except ParleyError as error:
        result = AuditResult.FAILED if isinstance(error, Unavailable) else AuditResult.REFUSED
        reason = error.detail
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        told = redact(reason).replace("\x00", "")[:AUDIT_REASON_LIMIT] or None
        ended = {"id": event, "result": result, "reason": told, "details": _json(notes)}
        _write_end(action, ended)


def _write_end(action: str, ended: Mapping[str, Any]) -> None:
    tries = Retrying(
        retry=retry_if_exception_type(DATABASE_AWAY),
        stop=stop_after_delay(KEEP_TRYING),
        wait=wait_random_exponential(0.1, max=2),
    )
    try:
        tries(_write, ended)
    except RetryError:
        _log.error("the end of %s was not written down: %s", action, ended["result"], extra={"event": str(ended["id"])})


def _write(ended: Mapping[str, Any]) -> None:
    with autocommit() as connection:
        sql.END.one(connection, ended)


def acts(
    *, target: str | None = None, action: str | None = None, after: UUID | None = None, limit: int = 20
) -> list[AuditedAct]:
    """What was done, the newest first, up to `limit`; `after` goes on behind that one."""
    parameters = {"target": target, "action": action, "after": after, "limit": limit}
    with autocommit() as connection:
        return [AuditedAct(**row._mapping) for row in sql.PAGE.all(connection, parameters)]


def _json(notes: Mapping[str, Any]) -> str:
    """As PostgreSQL takes it: it stores no NUL."""
    return orjson.dumps(notes, default=str).decode().replace("\\u0000", "\\ufffd")
