"""A unique index on the slots of a user's running turns.

Locks: none that block a turn. The index of running turns is small, and the old one is used until the new one is built.
Turns that run during the migration have no slot and are not counted. An index that an interrupted run left is dropped
first, so that the migration can be repeated.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_tokens_per_day")
        _replace("ix_turns_running", "uq_turns_running", "slot", unique=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _replace("uq_turns_running", "ix_turns_running", "id", unique=False)


def _replace(old: str, new: str, column: str, *, unique: bool) -> None:
    op.drop_index(new, "turns", postgresql_concurrently=True, if_exists=True)
    op.create_index(
        new,
        "turns",
        ["user_id", column],
        unique=unique,
        postgresql_where=sa.text("status = 'running'"),
        postgresql_concurrently=True,
    )
    op.drop_index(old, "turns", postgresql_concurrently=True, if_exists=True)
