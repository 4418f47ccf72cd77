"""Search documents per range of messages, with the version of the word rules.

Locks: none that matter. The new table's foreign key blocks writes to conversations only while it is created; the new
column has a constant default, so no row is rewritten. The old code still writes `conversation_search`; its documents
have the rules 0, so the sweep writes them again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "search_documents",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("first_position", sa.Integer(), nullable=False),
        sa.Column("first_character", sa.Integer(), nullable=False),
        sa.Column("last_position", sa.Integer(), nullable=False),
        sa.Column("document", postgresql.TSVECTOR(), nullable=False),
        sa.CheckConstraint("first_position >= 1", name=op.f("ck_search_documents_first_position")),
        sa.CheckConstraint("first_character >= 0", name=op.f("ck_search_documents_first_character")),
        sa.CheckConstraint("last_position >= first_position", name=op.f("ck_search_documents_last_position")),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name=op.f("fk_search_documents_conversations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "user_id", "conversation_id", "first_position", "first_character", name=op.f("pk_search_documents")
        ),
    )
    op.create_index(
        "ix_search_documents_document",
        "search_documents",
        ["document"],
        unique=False,
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )
    op.add_column("conversation_search", sa.Column("rules", sa.SmallInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("conversation_search", "rules")
    op.drop_table("search_documents")
