"""The audit log: each operator action is recorded before it starts, and updated with its result when it ends.

with audited(actor=actor, action="user.disable", target=str(user_id)) as notes:
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

from app.bounds import AUDIT_REASON_LIMIT
from app.database import autocommit
from app.enums import AuditResult
from app.errors import ParleyError, Unavailable
from app.ids import new_id
from app.logs import redact, request_id
from app.repositories import audit_events as sql
from ops.runs.actors import Actor
from ops.runs.retries import execute_with_retries

RETRY_SECONDS = 10.0  # for recording the result of an action

_log = logging.getLogger("parley.ops")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One recorded action."""

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
    *, actor: Actor, action: str, target: str | None = None, details: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Record `action` (`noun.verb`) of `actor` on `target` around the block; yield a dict for further details.

    The block does not run if the record cannot be written. Its exceptions are recorded and re-raised. If the database
    is unavailable at the end, the result is retried for `RETRY_SECONDS`, then logged; the action itself still succeeds.
    """
    notes, event_id = dict(details or {}), new_id()
    start = {
        "id": event_id,
        "actor_kind": actor.kind,
        "actor": actor.name[:255],
        "actor_id": actor.user_id,
        "address": actor.address,
        "action": action,
        "target": _storable(target)[:255] if target else None,
        "details": _json(notes),
        "request_id": request_id.get() or None,
    }
    with autocommit() as connection:
        sql.BEGIN.one(connection, start)
    result, reason = AuditResult.FAILED, "it did not finish"
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
        reason_text = _storable(redact(reason))[:AUDIT_REASON_LIMIT] or None
        _record_result(
            action,
            {"id": event_id, "new_id": new_id(), "result": result, "reason": reason_text, "details": _json(notes)},
        )


def _record_result(action: str, values: Mapping[str, Any]) -> None:
    if not execute_with_retries(sql.END, values, seconds=RETRY_SECONDS):
        _log.error(
            "the result of %s was not recorded: %s", action, values["result"], extra={"event": str(values["id"])}
        )


def audit_entries(
    *, target: str | None = None, action: str | None = None, after: UUID | None = None, limit: int = 20
) -> list[AuditEntry]:
    """Return up to `limit` recorded actions, newest first; `after` is the id that the page continues after."""
    parameters = {"target": target, "action": action, "after": after, "limit": limit}
    with autocommit() as connection:
        return [AuditEntry(**row._mapping) for row in sql.PAGE.all(connection, parameters)]


def _storable(text: str) -> str:
    """Return `text` with replacements for NUL and lone surrogates, which PostgreSQL does not store."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def _json(notes: Mapping[str, Any]) -> str:
    """Serialize to JSON without NUL, which PostgreSQL does not store."""
    return orjson.dumps(notes, default=str).decode().replace("\\u0000", "\\ufffd")
