"""Erasure of a user and all their data, with a receipt. A legal hold prevents it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from app.database import autocommit
from app.errors import Conflict, NotFound, UserHeld
from app.ids import new_id
from app.repositories import erasure as erasure_sql
from app.repositories import user_admin as sql
from app.repositories.atomic import atomically
from app.repositories.owned import count_rows
from ops.runs.actors import Actor
from ops.runs.audit import audited
from ops.runs.leases import exclusive_lease
from ops.runs.reasons import checked_reason
from ops.users import users
from ops.users.erasure_steps import (
    STATEMENT_SECONDS,
    erase_conversations,
    erase_user,
    lock_user,
    requested_receipt_id,
)
from ops.users.receipts import ErasureReceipt
from ops.users.remaining_backups import backups_with_user_data

TURNS_SECONDS = 10.0  # to wait for cancelled turns to end
_MAX_SHOWN = 20  # held conversations in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasurePlan:
    """The rows, by table, that an erasure would delete, and the backups that would contain them until they expire."""

    user_id: UUID
    rows: Mapping[str, int]
    backups: Sequence[Mapping[str, Any]]


def plan_erasure(*, user_id: UUID) -> ErasurePlan:
    """Count what an erasure would delete. Raises `NotFound`, and `UserHeld` with the held conversations."""
    with autocommit() as connection:
        rows = count_rows(connection, user_id)
        if not rows:
            raise users.not_found()
        _refuse_held(connection, user_id)
    return ErasurePlan(user_id=user_id, rows=rows, backups=backups_with_user_data())


def erase(*, user_id: UUID, by: Actor, reason: str) -> ErasureReceipt:
    """Disable the user, delete all their data, and write the receipt. An interrupted erasure can be run again.

    The last transaction deletes the user and writes the receipt, which counts the rows of all runs. So the receipt
    exists exactly if nothing is left. Raises `NotFound`, `UserHeld` (also for a hold that is placed during the run),
    `InvalidInput` for a reason out of bounds, and `AlreadyRunning`.
    """
    reason = checked_reason(reason)
    users.get(user_id=user_id)
    busy = "This account is already being erased; wait until that ends."
    with exclusive_lease(f"users.erase.{user_id}", busy) as lease, autocommit() as connection:
        _refuse_held(connection, user_id)
        erasure_sql.RECORD_BEGIN.run(connection, {"user_id": user_id})
        backups = backups_with_user_data()
        users.disable(user_id=user_id)
        _await_turns(user_id)
        erase_conversations(connection, user_id, lease.require)
        _refuse_held(connection, user_id)
        return _finish(connection, user_id, backups, by, reason)


def run_erasure_job(*, user_id: str, reason: str, by: str) -> ErasureReceipt | None:
    """Run the job users.erase, requested by the user `by`, an admin or the user who is erased.

    Returns None if the user is already erased.
    """
    actor = Actor(kind="user", name=by)
    with audited(actor=actor, action="user.erase", target=user_id, details={"reason": reason}) as notes:
        try:
            receipt = erase(user_id=UUID(user_id), by=actor, reason=reason)
        except NotFound:
            notes["found"] = "nothing"
            return None
        notes["receipt"], notes["rows"] = str(receipt.id), dict(receipt.rows)
        return receipt


def _refuse_held(connection: Connection, user_id: UUID) -> None:
    held = sql.HELD.all(connection, {"user_id": user_id, "limit": _MAX_SHOWN + 1})
    if held:
        names = ", ".join(str(row.id) for row in held[:_MAX_SHOWN]) + (" and more" if len(held) > _MAX_SHOWN else "")
        raise UserHeld(
            f"A legal hold keeps these conversations of the account: {names}. `flask ops archive hold list` shows who"
            " placed it, and why."
        )


def _await_turns(user_id: UUID) -> None:
    """Wait until the cancelled turns have ended. A turn that does not end loses its conversation and is discarded."""
    deadline = time.monotonic() + TURNS_SECONDS
    while time.monotonic() < deadline:
        with autocommit() as connection:
            if not sql.RUNNING.all(connection, {"user_id": user_id}):
                return
        time.sleep(0.2)


def _finish(
    connection: Connection, user_id: UUID, backups: Sequence[Mapping[str, Any]], by: Actor, reason: str
) -> ErasureReceipt:
    receipt: dict[str, Any] = {"user_id": user_id, "requested_by": by.name, "reason": reason}
    try:
        with atomically(connection, statement_seconds=STATEMENT_SECONDS):
            if not lock_user(connection, user_id):
                raise users.not_found()
            receipt["id"] = requested_receipt_id(connection, user_id) or new_id()
            erased = erase_user(connection, user_id, receipt["id"])
            remaining = count_rows(connection, user_id)
            if remaining:
                raise Conflict(
                    f"Rows remain in {', '.join(remaining)}, so the user was not deleted. Run the erasure again."
                )
            columns = {"rows": orjson.dumps(erased).decode(), "backups": orjson.dumps(backups, default=str).decode()}
            inserted = sql.RECEIPT.one(connection, {**receipt, **columns})
    except IntegrityError:  # from the foreign key of a hold
        _refuse_held(connection, user_id)
        raise
    assert inserted is not None  # noqa: S101  # an INSERT
    return ErasureReceipt(**receipt, rows=erased, backups=backups, erased_at=inserted.erased_at)
