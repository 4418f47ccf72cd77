"""SQL of API keys. A key contains its owner's id, so none is searched by its hash."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from app.models import ApiKey
from app.repositories.statement import Statement

# The row is found by its primary key and then compared by hash. The time of the comparison reveals nothing, because the
# bytes of a SHA-256 cannot be chosen. No row: no such key, or another secret.
IDENTIFY = Statement(
    "api_keys.identify",
    """
SELECT users.role, %(scope)s = ANY (api_keys.scopes) AS allowed,
       CASE WHEN api_keys.revoked_at IS NOT NULL THEN 'revoked'
            WHEN api_keys.expires_at <= now() THEN 'expired'
            WHEN users.status <> 'active' THEN 'disabled' END AS ended
  FROM api_keys JOIN users ON users.id = api_keys.user_id
 WHERE api_keys.user_id = %(user_id)s AND api_keys.id = %(key_id)s AND api_keys.key_hash = %(key_hash)s""",
)

# For all keys that a process has used. Skips rows that another process is writing or has just written, because it
# writes the same. Rows are locked in the order of their ids, so concurrent runs do not deadlock.
TOUCH = Statement(
    "api_keys.touch",
    """
WITH used AS (
    SELECT user_id, id FROM api_keys
      JOIN unnest(%(user_ids)s::uuid[], %(key_ids)s::uuid[]) AS seen(user_id, id) USING (user_id, id)
     WHERE last_used_at IS NULL OR last_used_at < now() - make_interval(secs => %(seconds)s)
     ORDER BY user_id, id FOR UPDATE OF api_keys SKIP LOCKED)
UPDATE api_keys SET last_used_at = now() FROM used
 WHERE api_keys.user_id = used.user_id AND api_keys.id = used.id
RETURNING api_keys.id""",
)


def page(session: Session, user_id: UUID, *, after: UUID | None, limit: int) -> Sequence[ApiKey]:
    """Return up to `limit` keys, newest first, ended ones included. Ids are ordered by time."""
    statement = (
        select(ApiKey)
        .prefix_with("/* api_keys.page */")
        .where(ApiKey.user_id == user_id)
        .order_by(ApiKey.id.desc())
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(ApiKey.id < after)
    return session.scalars(statement).all()


def add(session: Session, user_id: UUID, values: dict[str, Any]) -> ApiKey:
    """Insert a key."""
    return session.scalars(
        insert(ApiKey).prefix_with("/* api_keys.add */").values(user_id=user_id, **values).returning(ApiKey)
    ).one()


def revoke(session: Session, user_id: UUID, key_id: UUID) -> UUID | None:
    """Revoke a key; a revoked one keeps its time. Returns None if the user has no such key."""
    return session.scalars(
        update(ApiKey)
        .prefix_with("/* api_keys.revoke */")
        .where(ApiKey.user_id == user_id, ApiKey.id == key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now()))
        .returning(ApiKey.id)
    ).one_or_none()
