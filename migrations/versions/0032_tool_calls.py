"""Recorded calls of tools that must not be repeated.

Locks: `turns` against writes for a moment, for the foreign key. The table is new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    op.create_table(
        "tool_calls",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("tool", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("is_error", sa.Boolean(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('begun', 'done', 'unknown')", name=op.f("ck_tool_calls_state")),
        sa.CheckConstraint("char_length(content) <= 1000000", name=op.f("ck_tool_calls_content")),
        sa.CheckConstraint("(state = 'done') = (content IS NOT NULL)", name=op.f("ck_tool_calls_state_content")),
        sa.ForeignKeyConstraint(
            ["user_id", "turn_id"],
            ["turns.user_id", "turns.id"],
            name=op.f("fk_tool_calls_turns"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "turn_id", "key", name=op.f("pk_tool_calls")),
    )
    op.create_index("ix_tool_calls_created_at", "tool_calls", ["created_at"], postgresql_using="brin")


def downgrade() -> None:
    op.drop_table("tool_calls")
