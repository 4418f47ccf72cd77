"""The revision of the database's schema."""

from app.repositories.statement import Statement
from ops.checks.context import CheckContext

SEPARATOR = ", "  # between revisions, if alembic_version has several
CURRENT = "flask ops doctor --only migrations.current"

REVISION = Statement(
    "ops.revision",
    """
SELECT version_num FROM alembic_version ORDER BY version_num""",
)
HAS_VERSION = Statement("ops.has_revision", "SELECT to_regclass('alembic_version') IS NOT NULL AS exists")


def revision_of(context: CheckContext) -> str | None:
    """Return the database's revision, or several joined by `SEPARATOR`; None if it has none."""
    table = HAS_VERSION.one(context.connection, {})
    rows = REVISION.all(context.connection, {}) if table is not None and table.exists else []
    return SEPARATOR.join(row.version_num for row in rows) or None
