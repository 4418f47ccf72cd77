"""SQL of the answers that a repeated request is told again. Callers run it within the transaction of what is created:
until that ends, whoever claims the same key waits; ends it without a commit, the key was never used.
"""

from app.repositories.statement import Statement

# A row where the key is ours from now on: it was never used, or its time has passed. None where another request has
# it, whose row stays locked, so that it is there to be read; or where a turn has it.
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
RETURNING 1 AS ours""",
)

GET = Statement(
    "idempotency_keys.get",
    """
SELECT request_hash, status, response FROM idempotency_keys WHERE user_id = %(user_id)s AND key = %(key)s""",
)

ANSWER = Statement(
    "idempotency_keys.answer",
    """
UPDATE idempotency_keys SET status = %(status)s, response = %(response)s::jsonb
 WHERE user_id = %(user_id)s AND key = %(key)s RETURNING 1 AS kept""",
)
