"""The turns of a day are found without reading all turns.

Locks: none that hold up a turn; the index is built beside what is written. It is a few pages, and reads the table once.
What a run that was broken off has left is removed first, so that it can be run again.
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
