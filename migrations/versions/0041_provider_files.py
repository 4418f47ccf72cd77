"""Copies of files at providers, and those that are to be deleted there.

Locks: `projects` exclusively for a moment; the new column needs no rewrite. `users` and `files` against writes for a
moment, for the foreign keys.
"""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0035"

# Copies end in many ways: a user deletes a file, a project or the account. Each must also go at the provider. One
# insert for each statement: an erasure deletes thousands of rows in one.
REMOVE = """
CREATE FUNCTION remove_provider_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO provider_file_removals (provider, remote_id)
    SELECT provider, remote_id FROM changed_rows WHERE remote_id IS NOT NULL
        ON CONFLICT (provider, remote_id) DO NOTHING;
    RETURN NULL;
END $$"""

DUE = sa.text("state IN ('pending', 'failed')")


def upgrade() -> None:
    op.create_table(
        "provider_files",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(length=20), nullable=False),
        sa.Column("remote_id", sa.String(length=200), nullable=True),
        sa.Column("state", sa.String(length=20), server_default="pending", nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'uploaded', 'failed', 'removing')", name=op.f("ck_provider_files_state")
        ),
        sa.CheckConstraint("state <> 'uploaded' OR remote_id IS NOT NULL", name=op.f("ck_provider_files_remote_id")),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_provider_files_attempts")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_provider_files_users"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["user_id", "file_id"],
            ["files.user_id", "files.id"],
            name=op.f("fk_provider_files_files"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "file_id", "provider", name=op.f("pk_provider_files")),
    )
    op.create_index("ix_provider_files_remote", "provider_files", ["provider", "remote_id"])
    op.create_index("ix_provider_files_due", "provider_files", ["next_attempt_at"], postgresql_where=DUE)
    op.create_table(
        "provider_file_removals",
        sa.Column("provider", sa.String(length=20), nullable=False),
        sa.Column("remote_id", sa.String(length=200), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("provider", "remote_id", name=op.f("pk_provider_file_removals")),
    )
    op.create_index("ix_provider_file_removals_due", "provider_file_removals", ["next_attempt_at"])
    op.execute(REMOVE)
    op.execute(
        "CREATE TRIGGER remove_at_provider AFTER DELETE ON provider_files REFERENCING OLD TABLE AS changed_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION remove_provider_files()"
    )
    # Last, because it locks the table until the transaction ends.
    op.add_column("projects", sa.Column("provider_files", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.drop_table("provider_files")
    op.drop_table("provider_file_removals")
    op.execute("DROP FUNCTION remove_provider_files()")
    op.drop_column("projects", "provider_files")
