"""Seals of the audit, and the seal of each event.

Locks: audit_events ACCESS EXCLUSIVE for a moment, to add a column without a default. The downgrade drops the
seals, which needs PARLEY_DROP_AUDIT=yes.
"""

import os

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"

ANY_ROW = "SELECT EXISTS (SELECT FROM audit_seals)"


def upgrade() -> None:
    op.create_table(
        "audit_seals",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("complete_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("event_ids", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.Column("event_hashes", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_seals")),
    )
    op.add_column("audit_events", sa.Column("seal", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    refuse_to_drop_audit()
    op.drop_column("audit_events", "seal")
    op.drop_table("audit_seals")


def refuse_to_drop_audit() -> None:
    """Raise `CommandError` if the table holds rows, unless PARLEY_DROP_AUDIT=yes says that they may be lost."""
    if os.environ.get("PARLEY_DROP_AUDIT") == "yes":
        return
    if op.get_context().as_sql or op.get_bind().execute(sa.text(ANY_ROW)).scalar_one():
        raise CommandError(
            "The downgrade drops the table audit_seals, and with it the audit. The database stays at revision 0021. "
            "Create a backup (flask ops backup create), then run it again with PARLEY_DROP_AUDIT=yes."
        )
