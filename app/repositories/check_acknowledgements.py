"""SQL of acknowledged findings. They end with a day in UTC, by the database's clock."""

from app.repositories.statement import Statement

_COLUMNS = """id, check_id, object, level, reason, ends_on, acknowledged_by, acknowledged_at,
       ends_on >= (now() AT TIME ZONE 'UTC')::date AS is_active"""

EXISTS = Statement(
    "check_acknowledgements.exists", "SELECT to_regclass('check_acknowledgements') IS NOT NULL AS is_there"
)

TODAY = Statement("check_acknowledgements.today", "SELECT (now() AT TIME ZONE 'UTC')::date AS today")

ALL = Statement(
    "check_acknowledgements.all",
    f"SELECT {_COLUMNS} FROM check_acknowledgements ORDER BY check_id, object LIMIT %(limit)s",
)

# Repeating one replaces its reason and end.
PUT = Statement(
    "check_acknowledgements.put",
    f"""
INSERT INTO check_acknowledgements (id, check_id, object, level, reason, ends_on, acknowledged_by)
VALUES (%(id)s, %(check_id)s, %(object)s, %(level)s, %(reason)s, %(ends_on)s, %(by)s)
ON CONFLICT (check_id, object) DO UPDATE SET level = excluded.level, reason = excluded.reason,
       ends_on = excluded.ends_on, acknowledged_by = excluded.acknowledged_by, acknowledged_at = now()
RETURNING {_COLUMNS}""",
)

DELETE = Statement(
    "check_acknowledgements.delete",
    f"DELETE FROM check_acknowledgements WHERE id = %(id)s RETURNING {_COLUMNS}",
)
