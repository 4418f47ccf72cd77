"""Texts of files, and their passages.

Files that stand already get a pending row if their type has text. Files that the old code stores after that have none;
the job files.purge queues them.

Locks: those of new tables, and `files` against writes for a moment, for the foreign key.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0035"
down_revision = "0034"

# One change for each statement: all passages of a file change the same counter.
COUNT = """
CREATE FUNCTION count_stored_file_passages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM add_stored_bytes(changed.user_id, CASE TG_OP WHEN 'DELETE' THEN -changed.bytes ELSE changed.bytes END)
       FROM (SELECT user_id, sum(octet_length(content))::bigint AS bytes
               FROM changed_rows GROUP BY user_id ORDER BY user_id) AS changed;
    RETURN NULL;
END $$"""

PENDING = """
INSERT INTO file_texts (user_id, file_id)
SELECT user_id, id FROM files WHERE media_type NOT LIKE 'image/%'"""


def upgrade() -> None:
    op.create_table(
        "file_texts",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="pending", nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=True),
        sa.Column("characters", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("truncated", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'ready', 'failed')", name=op.f("ck_file_texts_state")),
        sa.CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name=op.f("ck_file_texts_reason")),
        sa.CheckConstraint("characters >= 0", name=op.f("ck_file_texts_characters")),
        sa.ForeignKeyConstraint(
            ["user_id", "file_id"],
            ["files.user_id", "files.id"],
            name=op.f("fk_file_texts_files"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "file_id", name=op.f("pk_file_texts")),
    )
    op.create_index(
        "ix_file_texts_pending",
        "file_texts",
        ["user_id", "file_id"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "file_passages",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("search", postgresql.TSVECTOR(), nullable=False),
        sa.CheckConstraint("ordinal >= 1", name=op.f("ck_file_passages_ordinal")),
        sa.CheckConstraint('"start" >= 0', name=op.f("ck_file_passages_start")),
        sa.CheckConstraint("page >= 1", name=op.f("ck_file_passages_page")),
        sa.CheckConstraint("char_length(content) BETWEEN 1 AND 4000", name=op.f("ck_file_passages_content")),
        sa.ForeignKeyConstraint(
            ["user_id", "file_id"],
            ["file_texts.user_id", "file_texts.file_id"],
            name=op.f("fk_file_passages_file_texts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "file_id", "ordinal", name=op.f("pk_file_passages")),
    )
    op.create_index(
        "ix_file_passages_search",
        "file_passages",
        ["search"],
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )
    op.execute(COUNT)
    for event, rows in (("INSERT", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER count_stored_{event.lower()} AFTER {event} ON file_passages REFERENCING {rows} TABLE AS"
            " changed_rows FOR EACH STATEMENT EXECUTE FUNCTION count_stored_file_passages()"
        )
    op.execute(PENDING)


def downgrade() -> None:
    op.drop_table("file_passages")
    op.drop_table("file_texts")
    op.execute("DROP FUNCTION count_stored_file_passages()")
