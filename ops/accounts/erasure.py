"""Erasing a person: everything of theirs, everywhere it can be, with a receipt; a legal hold refuses it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from app.database import direct_connection
from app.errors import Conflict, InvalidInput, NotFound
from app.models.columns import new_id
from app.repositories import accounts as sql
from app.repositories.atomic import atomically
from app.repositories.owned import count_rows
from ops.accounts import people
from ops.accounts.remembering import backups_that_remember
from ops.accounts.removing import remove_account, remove_conversations
from ops.actors import Actor
from ops.audit import audited
from ops.care.batches import autocommit
from ops.locks import alone

STATEMENT_SECONDS = 120  # for one piece, and for looking whether anything of a long conversation is left
TURNS_SECONDS = 10.0  # for turns under way to hear that they are cancelled
SHORTEST_REASON = 3  # characters
_SHOWN = 20  # held conversations in a refusal


class AccountHeld(Conflict):
    """Somebody has to keep what this person has."""

    code = "account_held"
    default_detail = "A legal hold keeps this account's data."


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasurePlan:
    """What an erasure would take, by table, and which backups would go on having it until they expire."""

    account_id: UUID
    rows: Mapping[str, int]
    backups: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What went. `backups` (name, expires) still have it until they are pruned."""

    id: UUID
    account_id: UUID
    requested_by: str
    reason: str
    rows: Mapping[str, int]
    backups: Sequence[Mapping[str, Any]]
    erased_at: datetime


def plan_erasure(*, user_id: UUID) -> ErasurePlan:
    """Look, and change nothing. Raises `NotFound`, and `AccountHeld` with the conversations that are held."""
    with autocommit() as connection:
        rows = count_rows(connection, user_id)
        if not rows:
            raise people.missing()
        _refuse_held(connection, user_id)
    return ErasurePlan(account_id=user_id, rows=rows, backups=backups_that_remember())


def erase(*, user_id: UUID, by: Actor, reason: str) -> Receipt:
    """Delete the account and all it has. Nobody gets in from the first moment on; stopped halfway, run it again.

    The last transaction deletes the account and writes the receipt, so there is one exactly when nothing is left; it
    counts what all runs have deleted. Raises `NotFound`; `AccountHeld` also where a hold was placed meanwhile;
    `InvalidInput` without a reason; `AnotherRunIsUnderWay`.
    """
    if len(reason.strip()) < SHORTEST_REASON:
        raise InvalidInput(fields={"reason": ["Say why, for the receipt."]})
    people.find(user_id=user_id)
    busy = "This account is being erased already; wait for the end of that."
    with alone(f"accounts.erase.{user_id}", busy) as connection:
        _refuse_held(connection, user_id)
        backups = backups_that_remember()
        people.disable(user_id=user_id)
        _await_turns(user_id)
        connection.exec_driver_sql(f"SET statement_timeout = '{STATEMENT_SECONDS}s'")
        remove_conversations(connection, user_id)
        _refuse_held(connection, user_id)
        return _finish(connection, user_id, backups, by, reason.strip())


def erase_asked(*, account_id: str, reason: str, by: str) -> Receipt | None:
    """What the job does that an admin asked for; `by` is who. None if the account is gone already: it may run twice."""
    actor, user_id = Actor(kind="user", name=by), UUID(account_id)
    with audited(by=actor, action="user.erase", on=account_id, details={"reason": reason}) as notes:
        try:
            receipt = erase(user_id=user_id, by=actor, reason=reason)
        except NotFound:
            notes["found"] = "nothing"
            return None
        notes["receipt"], notes["rows"] = str(receipt.id), dict(receipt.rows)
        return receipt


def erasures(*, after: UUID | None = None, limit: int = 20) -> list[Receipt]:
    """The receipts, the newest first, up to `limit`; `after` goes on behind that one."""
    with direct_connection() as connection:
        return [Receipt(**row._mapping) for row in sql.ERASED.all(connection, {"after": after, "limit": limit})]


def _refuse_held(connection: Connection, user_id: UUID) -> None:
    held = sql.HELD.all(connection, {"user_id": user_id, "limit": _SHOWN + 1})
    if held:
        named = ", ".join(str(row.id) for row in held[:_SHOWN]) + (" and more" if len(held) > _SHOWN else "")
        raise AccountHeld(
            f"A legal hold keeps what this account has: conversations {named}. They stay; `flask ops archive hold list`"
            " says who holds them and why."
        )


def _await_turns(user_id: UUID) -> None:
    """Turns that run on all the same find their conversation gone, and are dropped."""
    deadline = time.monotonic() + TURNS_SECONDS
    while time.monotonic() < deadline:
        with autocommit() as connection:
            if not sql.RUNNING.all(connection, {"user_id": user_id}):
                return
        time.sleep(0.2)


def _finish(
    connection: Connection, user_id: UUID, backups: Sequence[Mapping[str, Any]], by: Actor, reason: str
) -> Receipt:
    receipt: dict[str, Any] = {"id": new_id(), "account_id": user_id, "requested_by": by.name, "reason": reason}
    try:
        with atomically(connection):
            gone = remove_account(connection, user_id)
            if gone is None:
                raise people.missing()
            left = count_rows(connection, user_id)
            if left:
                raise Conflict(
                    f"Rows were left behind in {', '.join(left)}: nothing of this step was done. Run it again."
                )
            told = {"rows": orjson.dumps(gone).decode(), "backups": orjson.dumps(backups, default=str).decode()}
            written = sql.RECEIPT.one(connection, {**receipt, **told})
    except IntegrityError:  # of the hold's foreign key
        _refuse_held(connection, user_id)
        raise
    assert written is not None  # noqa: S101  # an INSERT
    return Receipt(**receipt, rows=gone, backups=backups, erased_at=written.erased_at)
