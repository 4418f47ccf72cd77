"""SQL of the settings that operators change at run time: a few rows, read together."""

from app.repositories.statement import Statement

ALL = Statement("runtime_settings.all", "SELECT key, value, updated_at, updated_by FROM settings")

PUT = Statement(
    "runtime_settings.put",
    """
INSERT INTO settings AS known (key, value, updated_by) VALUES (%(key)s, %(value)s::jsonb, %(by)s)
    ON CONFLICT (key) DO UPDATE
   SET value = excluded.value, updated_by = excluded.updated_by, updated_at = greatest(known.updated_at, now())
RETURNING updated_at""",
)

REMOVE = Statement("runtime_settings.remove", "DELETE FROM settings WHERE key = %(key)s RETURNING value")
