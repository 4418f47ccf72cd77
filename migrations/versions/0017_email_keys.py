"""A column for the normal form of a user's email address.

Locks: `users` exclusively for a moment; a column without a default needs no rewrite. The old code does not write the
column. Without a value, an account is found by its lower-case address.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("users", sa.Column("email_key", sa.String(length=254), nullable=True))


def downgrade() -> None:
    op.drop_column("users", "email_key")
