"""Validation of the CHECK on the users' limits of stored bytes. Locks: none that block a turn."""

from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_max_bytes")


def downgrade() -> None:
    """Do nothing: a constraint stays valid."""
