"""Events of streams, so that any process can replay them.

Locks: `turns` exclusively for a moment; two columns whose defaults need no rewrite. The table is new.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("turns", sa.Column("events_wanted", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("turns", sa.Column("last_sequence", sa.Integer(), nullable=True))
    op.create_table(
        "turn_events",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Uuid(), nullable=False),
        sa.Column("events", postgresql.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "turn_id"],
            ["turns.user_id", "turns.id"],
            name=op.f("fk_turn_events_turns"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "turn_id", "sequence", name=op.f("pk_turn_events")),
    )
    op.create_index("ix_turn_events_created_at", "turn_events", ["created_at"], postgresql_using="brin")


def downgrade() -> None:
    op.drop_table("turn_events")
    op.drop_column("turns", "last_sequence")
    op.drop_column("turns", "events_wanted")
