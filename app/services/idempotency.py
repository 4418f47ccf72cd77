"""Idempotency keys of requests that create something: a repeated request gets the stored response.

The key, the created row and the response are stored in one transaction. After a crash or an error none of them exists,
and the same request runs as the first one. A concurrent duplicate waits for the row of the key, as long as for any
lock. Turns store their keys themselves. The keys of a user are one namespace: a key names one request to any endpoint.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.exc import DBAPIError

from app.database import sqlstate
from app.errors import IdempotencyMismatch, RequestInProgress
from app.repositories import idempotency_keys as sql
from app.services.transactions import took_part, unit_of_work

KEEP = timedelta(hours=24)  # after the first response the key can be used for another request, and is purged
_LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response to a request. `replayed` means that it was stored before. `location` is the URL of the new row."""

    status: int
    body: str
    location: str | None = None
    replayed: bool = False


def request_hash(endpoint: str, body: Any) -> bytes:
    """Return the SHA-256 of the endpoint and of `body` as JSON, which does not depend on the order of its fields."""
    payload = orjson.dumps([endpoint, body], default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(payload).digest()


def run_once(user_id: UUID, key: str, request_hash: bytes, create: Callable[[], StoredResponse]) -> StoredResponse:
    """Return the response of `create`, or the stored one if this key was sent with the same request before.

    `create` must store through `app.services.transactions`; if it raises, the key is rolled back too. Raises
    `IdempotencyMismatch` if the key names another request, `RequestInProgress` if the first request takes longer than
    the lock timeout, and the errors of `create`.
    """
    parameters = {"user_id": user_id, "key": key, "request_hash": request_hash, "keep": KEEP.total_seconds()}
    with unit_of_work() as session:
        connection = session.connection()
        try:
            claimed = sql.CLAIM.one(connection, parameters)
        except DBAPIError as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                raise
            raise RequestInProgress(retry_after=1) from None
        if claimed is None:
            earlier = sql.GET.one(connection, parameters)
            if earlier is None or bytes(earlier.request_hash) != request_hash:  # None: the key belongs to a turn
                raise IdempotencyMismatch
            return StoredResponse(earlier.status, **earlier.response, replayed=True)
        response = create()
        if not took_part(session):
            raise RuntimeError("create() stored nothing in the transaction of the idempotency key")
        stored = orjson.dumps({"body": response.body, "location": response.location}).decode()
        sql.STORE_RESPONSE.one(connection, {**parameters, "status": response.status, "response": stored})
        return response
