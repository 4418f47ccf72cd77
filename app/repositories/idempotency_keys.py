"""SQL of idempotency keys and stored responses, in the transaction of the created row.

A concurrent claim of the same key waits for that transaction. If it rolls back, the key was not used.
"""

from app.repositories.statement import Statement

# Returns a row if the key was free or has expired. No row: another request has it, and its row is locked, so that it
# can be read; or a turn has it.
CLAIM = Statement(
    "idempotency_keys.claim",
    """
INSERT INTO idempotency_keys AS earlier (user_id, key, request_hash, expires_at)
SELECT %(user_id)s, %(key)s, %(request_hash)s, now() + make_interval(secs => %(keep)s)
 WHERE NOT EXISTS (SELECT FROM turns WHERE user_id = %(user_id)s AND idempotency_key = %(key)s)
    ON CONFLICT (user_id, key) DO UPDATE
   SET request_hash = excluded.request_hash, expires_at = excluded.expires_at, created_at = now(), status = NULL,
       response = NULL
 WHERE earlier.expires_at <= now()
RETURNING 1 AS claimed""",
)

GET = Statement(
    "idempotency_keys.get",
    """
SELECT request_hash, status, response FROM idempotency_keys WHERE user_id = %(user_id)s AND key = %(key)s""",
)

STORE_RESPONSE = Statement(
    "idempotency_keys.store_response",
    """
UPDATE idempotency_keys SET status = %(status)s, response = %(response)s::jsonb
 WHERE user_id = %(user_id)s AND key = %(key)s RETURNING 1 AS stored""",
)
