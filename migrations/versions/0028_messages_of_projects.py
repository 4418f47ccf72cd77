"""An index that finds the conversations of a project in the order in which they were created.

It replaces the index on the project alone, under the same name. Locks: none that block a turn; the new index is built
concurrently, and its renaming holds its lock for a moment. An index that an interrupted run left is dropped first, so
that the migration can be repeated.
"""

from alembic import op
from sqlalchemy import text

revision = "0028"
down_revision = "0027"

_NAME = "ix_conversations_project"


def _replace(columns: list[str]) -> None:
    new = f"{_NAME}_new"
    with op.get_context().autocommit_block():
        op.drop_index(new, "conversations", postgresql_concurrently=True, if_exists=True)
        op.create_index(
            new,
            "conversations",
            columns,
            unique=False,
            postgresql_where=text("project_id IS NOT NULL"),
            postgresql_concurrently=True,
        )
        op.drop_index(_NAME, "conversations", postgresql_concurrently=True, if_exists=True)
        op.execute(f"-- squawk-ignore renaming-object\nALTER INDEX {new} RENAME TO {_NAME}")  # nothing names an index


def upgrade() -> None:
    _replace(["user_id", "project_id", "id"])


def downgrade() -> None:
    _replace(["user_id", "project_id"])
