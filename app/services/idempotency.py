"""A request that creates something, sent twice, creates it once: what it was answered is kept and told again.

The key, what is created and the answer are one transaction. So there is no state in between: after a crash or an error
neither of them is there, and the same request runs as if for the first time. While it runs, the same key is a row that
nobody else can insert: a duplicate waits for its end, as long as for any lock. Turns keep their keys themselves, and a
person's keys are one namespace: a key names one request, wherever it was sent.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.exc import DBAPIError

from app.errors import IdempotencyMismatch, RequestUnderWay
from app.repositories import idempotency_keys as sql
from app.services.transactions import as_one, was_joined

KEEP = timedelta(hours=24)  # from the first answer; then the key can be used anew, and the purge takes it away
_LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered; `again` if it is told again. `location` is where the created thing is."""

    status: int
    body: str
    location: str | None = None
    again: bool = False


def request_hash(endpoint: str, asked: Any) -> bytes:
    """SHA-256 of what is asked: `asked` as JSON, whatever the order of its fields, and of whom."""
    told = orjson.dumps([endpoint, asked], default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(told).digest()


def once(user_id: UUID, key: str, request_hash: bytes, create: Callable[[], Answer]) -> Answer:
    """What `create` answers, or has answered when this key was sent with the same request before.

    `create` must store what it stores through `app.services.transactions`, and is rolled back with the key if it
    raises. Raises `IdempotencyMismatch` where the key names another request, `RequestUnderWay` where the first one took
    longer than a lock is waited for, and what `create` raises.
    """
    parameters = {"user_id": user_id, "key": key, "request_hash": request_hash, "keep": KEEP.total_seconds()}
    with as_one() as session:
        connection = session.connection()
        try:
            ours = sql.CLAIM.one(connection, parameters)
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
                raise
            raise RequestUnderWay(retry_after=1) from None
        if ours is None:
            earlier = sql.GET.one(connection, parameters)
            if earlier is None or bytes(earlier.request_hash) != request_hash:  # None: it is the key of a turn
                raise IdempotencyMismatch
            return Answer(earlier.status, **earlier.response, again=True)
        answer = create()
        if not was_joined(session):
            raise RuntimeError("what was created is not in the transaction of its idempotency key")
        kept = orjson.dumps({"body": answer.body, "location": answer.location}).decode()
        sql.ANSWER.one(connection, {**parameters, "status": answer.status, "response": kept})
        return answer
