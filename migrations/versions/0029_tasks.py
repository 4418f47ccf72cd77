"""To-do items of users.

Locks: none that matter. The new table's foreign key blocks writes to `users` only while it is created. The old code
does not use the table; its erasures delete the rows by the foreign key and do not count them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0029"
down_revision = "0028"

SIZE = "(octet_length({0}title) + coalesce(octet_length({0}description), 0))"  # bytes of a row that count as stored


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("completed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("call_key", sa.String(length=64), nullable=True),
        sa.Column("search_document", postgresql.TSVECTOR(), server_default=sa.text("''"), nullable=False),
        sa.Column("search_rules", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("char_length(title) >= 1", name=op.f("ck_tasks_title")),
        sa.CheckConstraint("char_length(description) <= 10000", name=op.f("ck_tasks_description")),
        sa.CheckConstraint("completed = (completed_at IS NOT NULL)", name=op.f("ck_tasks_completed_at")),
        sa.CheckConstraint("updated_at >= created_at", name=op.f("ck_tasks_updated_at")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tasks_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_tasks")),
    )
    op.create_index("ix_tasks_listing", "tasks", ["user_id", "completed", "id"], unique=False)
    op.create_index(
        "uq_tasks_call_key",
        "tasks",
        ["user_id", "call_key"],
        unique=True,
        postgresql_where=sa.text("call_key IS NOT NULL"),
    )
    op.create_index(
        "ix_tasks_search_document",
        "tasks",
        ["search_document"],
        unique=False,
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )
    op.create_index("ix_tasks_search_rules", "tasks", ["search_rules"], unique=False)
    _count_stored_bytes()


def _count_stored_bytes() -> None:
    """Create the function and the triggers, like those of the other tables in 0025."""
    new, old = SIZE.format("NEW."), SIZE.format("OLD.")
    op.execute(
        f"""
CREATE FUNCTION count_stored_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM add_stored_bytes(OLD.user_id, -{old});
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM add_stored_bytes(NEW.user_id, {new});
    END IF;
    RETURN NULL;
END $$"""
    )
    for event, changed in {"INSERT": new, "DELETE": old, "UPDATE": f"{new} - {old}"}.items():
        op.execute(
            f"CREATE TRIGGER count_stored_{event.lower()} AFTER {event} ON tasks FOR EACH ROW"
            f" WHEN ({changed} <> 0) EXECUTE FUNCTION count_stored_tasks()"
        )


def downgrade() -> None:
    op.drop_table("tasks")
    op.execute("DROP FUNCTION count_stored_tasks()")
