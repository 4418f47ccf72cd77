"""SQL of setting and reading daily quotas; `turn_limits` has the counting by turns."""

from app.repositories.statement import Statement
from app.repositories.turn_limits import RESERVED, TODAY, USED

_COLUMNS = f"""users.id, users.tokens_per_day, {USED} AS used, {RESERVED} AS reserved,
       ({TODAY} + 1)::timestamp AT TIME ZONE 'UTC' AS resets_at"""

GET = Statement("quotas.get", f"SELECT {_COLUMNS} FROM users WHERE users.id = %(user_id)s")

# Keeps the tokens used today, unless there was no quota: then they were not counted.
SET = Statement(
    "quotas.set",
    f"""
UPDATE users SET tokens_per_day = %(tokens_per_day)s::bigint,
       tokens_used = CASE WHEN %(tokens_per_day)s::bigint IS NULL OR tokens_per_day IS NULL THEN 0 ELSE tokens_used END
 WHERE id = %(user_id)s
RETURNING {_COLUMNS}""",
)
