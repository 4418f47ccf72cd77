"""The first successor of a refresh token that was replaced twice, because the first answer was lost.

Locks: `sessions` exclusively for a moment; a column without a default needs no rewrite. The old code neither reads nor
writes the column: it refuses such a token and ends its session, as before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("first_successor_hash", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "first_successor_hash")
