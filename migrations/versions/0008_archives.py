"""Bundles of archived conversations, archival runs, and legal holds.

Locks: `conversations` exclusively for a moment, to add a column without a default. The tables are new, and their
foreign keys block writes to conversations only while they are created.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_OF_A_CONVERSATION = (["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"])


def upgrade() -> None:
    op.add_column("conversations", sa.Column("revived_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "conversation_archives",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("plain_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("bundle", sa.LargeBinary(), nullable=False),
        sa.Column("previous_status", sa.String(length=10), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "previous_status IN ('active', 'archived')", name=op.f("ck_conversation_archives_previous_status")
        ),
        sa.CheckConstraint("message_count >= 0", name=op.f("ck_conversation_archives_message_count")),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_conversation_archives_sha256")),
        sa.ForeignKeyConstraint(
            *_OF_A_CONVERSATION, name=op.f("fk_conversation_archives_conversations"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "conversation_id", name=op.f("pk_conversation_archives")),
    )
    op.create_index("ix_conversation_archives_run", "conversation_archives", ["run_id", "user_id", "conversation_id"])
    op.create_table(
        "archive_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(length=12), server_default="running", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cursor_user_id", sa.Uuid(), nullable=True),
        sa.Column("cursor_conversation_id", sa.Uuid(), nullable=True),
        sa.Column("seen", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("conversations", sa.Integer(), server_default="0", nullable=False),
        sa.Column("messages", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("plain_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bundle_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("passed_over", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unfit", sa.Integer(), server_default="0", nullable=False),
        sa.Column("restored", sa.Integer(), server_default="0", nullable=False),
        sa.Column("paused_seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("paused_for", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'completed', 'stopped', 'failed', 'interrupted')", name=op.f("ck_archive_runs_state")
        ),
        sa.CheckConstraint("(state = 'running') = (finished_at IS NULL)", name=op.f("ck_archive_runs_finished_at")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archive_runs")),
    )
    op.create_index("ix_archive_runs_started_at", "archive_runs", [sa.text("started_at DESC")])
    op.create_table(
        "legal_holds",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("placed_by", sa.String(length=255), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("char_length(reason) BETWEEN 1 AND 1000", name=op.f("ck_legal_holds_reason")),
        sa.ForeignKeyConstraint(*_OF_A_CONVERSATION, name=op.f("fk_legal_holds_conversations")),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_legal_holds")),
    )
    op.create_index("ix_legal_holds_conversation", "legal_holds", ["user_id", "conversation_id"])


def downgrade() -> None:
    _refuse_to_lose_messages()
    op.drop_table("legal_holds")
    op.drop_table("archive_runs")
    op.drop_table("conversation_archives")
    op.drop_column("conversations", "revived_at")


def _refuse_to_lose_messages() -> None:
    """Raise an error if the table has bundles, because the downgrade would delete their messages."""
    if op.get_context().as_sql:
        return
    bundled = op.get_bind().execute(sa.text("SELECT count(*) FROM conversation_archives")).scalar_one()
    if bundled:
        raise RuntimeError(f"{bundled} conversations are bundled; restore them first: flask ops archive restore --run")
