"""An index that finds the turns of a day without reading all turns.

Locks: none that block a turn; the index is built concurrently. It has a few pages, and the build reads the table once.
An index that an interrupted run left is dropped first, so that the migration can be repeated.
"""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_turns_started_at", "turns", postgresql_concurrently=True, if_exists=True)
        op.create_index(
            "ix_turns_started_at",
            "turns",
            ["started_at"],
            unique=False,
            postgresql_using="brin",
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_turns_started_at", "turns", postgresql_concurrently=True, if_exists=True)
