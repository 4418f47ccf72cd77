"""Audit of what users do to their own accounts, in its transaction; `ops.runs.audit` has those of operators."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection

from app.ids import new_id
from app.logs import request_id
from app.repositories import audit_events as sql
from app.services.sessions import Client

_LONGEST_ADDRESS = 64  # characters


def record_own_action(
    connection: Connection, user_id: UUID, action: str, client: Client, details: Mapping[str, Any] | None = None
) -> None:
    """Record that a user did `action` (`noun.verb`) to the own account. Does not commit.

    `details` must contain no personal data, because the audit outlives the account.
    """
    sql.ADD.one(
        connection,
        {
            "id": new_id(),
            "user_id": user_id,
            "address": client.address[:_LONGEST_ADDRESS] if client.address else None,
            "action": action,
            "details": orjson.dumps(details or {}).decode(),
            "request_id": request_id.get() or None,
        },
    )
