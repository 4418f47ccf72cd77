"""Files of users, their contents, and the objects that are to be deleted from the store of files.

Locks: those of new tables, and `users` and `projects` against writes for a moment, for the foreign keys.
"""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"

# Equal files share one content, so the contents are what is stored. One change for each statement: all rows of a user
# change the same counter, and an erasure deletes thousands of rows in one statement.
COUNT = """
CREATE FUNCTION count_stored_file_contents() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM add_stored_bytes(changed.user_id, CASE TG_OP WHEN 'DELETE' THEN -changed.bytes ELSE changed.bytes END)
       FROM (SELECT user_id, sum(bytes)::bigint AS bytes
               FROM changed_rows GROUP BY user_id ORDER BY user_id) AS changed;
    RETURN NULL;
END $$"""

# Contents end in many ways: a user deletes a file, a project or the account. The object must go in all of them.
REMOVE = """
CREATE FUNCTION remove_file_objects() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO file_removals (object) SELECT object FROM changed_rows ON CONFLICT (object) DO NOTHING;
    RETURN NULL;
END $$"""


def upgrade() -> None:
    op.create_table(
        "file_contents",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_file_contents_sha256")),
        sa.CheckConstraint("bytes >= 1", name=op.f("ck_file_contents_bytes")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_file_contents_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "sha256", name=op.f("pk_file_contents")),
    )
    op.create_index("ix_file_contents_object", "file_contents", ["object"])
    op.create_table(
        "files",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("char_length(name) >= 1", name=op.f("ck_files_name")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_files_users"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["user_id", "project_id"],
            ["projects.user_id", "projects.id"],
            name=op.f("fk_files_projects"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "sha256"],
            ["file_contents.user_id", "file_contents.sha256"],
            name=op.f("fk_files_file_contents"),
        ),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_files")),
    )
    op.create_index("ix_files_content", "files", ["user_id", "sha256"])
    op.create_index(
        "ix_files_project",
        "files",
        ["user_id", "project_id", "id"],
        postgresql_where=sa.text("project_id IS NOT NULL"),
    )
    op.create_table(
        "file_removals",
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("object", name=op.f("pk_file_removals")),
    )
    op.execute(COUNT)
    op.execute(REMOVE)
    for event, rows in (("INSERT", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER count_stored_{event.lower()} AFTER {event} ON file_contents REFERENCING {rows} TABLE AS"
            " changed_rows FOR EACH STATEMENT EXECUTE FUNCTION count_stored_file_contents()"
        )
    op.execute(
        "CREATE TRIGGER remove_objects AFTER DELETE ON file_contents REFERENCING OLD TABLE AS changed_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION remove_file_objects()"
    )


def downgrade() -> None:
    op.drop_table("files")
    op.drop_table("file_contents")
    op.drop_table("file_removals")
    op.execute("DROP FUNCTION count_stored_file_contents()")
    op.execute("DROP FUNCTION remove_file_objects()")
