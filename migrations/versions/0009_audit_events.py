"""Audit events.

Locks: none but that of a new table. The downgrade drops the audit, which needs PARLEY_DROP_AUDIT=yes.
"""

import os

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"

ANY_ROW = "SELECT EXISTS (SELECT FROM audit_events)"


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor_kind", sa.String(10), nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("address", sa.String(64), nullable=True),
        sa.Column("action", sa.String(100), nullable=False),
        sa.Column("target", sa.String(255), nullable=True),
        sa.Column("result", sa.String(10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("details", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("result IN ('begun', 'done', 'refused', 'failed')", name=op.f("ck_audit_events_result")),
        sa.CheckConstraint("(result = 'begun') = (ended_at IS NULL)", name=op.f("ck_audit_events_ended_at")),
        sa.CheckConstraint("char_length(reason) <= 2000", name=op.f("ck_audit_events_reason")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index(
        "ix_audit_events_target", "audit_events", ["target", "id"], postgresql_where=sa.text("target IS NOT NULL")
    )


def downgrade() -> None:
    refuse_to_drop_audit()
    op.drop_table("audit_events")


def refuse_to_drop_audit() -> None:
    """Raise `CommandError` if the table holds rows, unless PARLEY_DROP_AUDIT=yes says that they may be lost."""
    if os.environ.get("PARLEY_DROP_AUDIT") == "yes":
        return
    if op.get_context().as_sql or op.get_bind().execute(sa.text(ANY_ROW)).scalar_one():
        raise CommandError(
            "The downgrade drops the table audit_events, and with it the audit. The database stays at revision 0009. "
            "Create a backup (flask ops backup create), then run it again with PARLEY_DROP_AUDIT=yes."
        )
