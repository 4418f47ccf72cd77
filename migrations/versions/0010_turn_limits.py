"""Limits of running turns and of daily tokens per user.

Locks: `turns` and `users` exclusively for a moment; columns without a default need no rewrite, and the CHECK is not
validated for existing rows, which cannot violate it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("turns", sa.Column("slot", sa.SmallInteger(), nullable=True))
    op.add_column("turns", sa.Column("quota_tokens", sa.Integer(), nullable=True))
    op.add_column("turns", sa.Column("quota_estimated", sa.Boolean(), nullable=True))
    op.add_column("users", sa.Column("tokens_per_day", sa.BigInteger(), nullable=True))
    op.add_column("users", sa.Column("tokens_used", sa.BigInteger(), nullable=True))
    op.add_column("users", sa.Column("tokens_day", sa.Date(), nullable=True))
    op.create_check_constraint(
        op.f("ck_users_tokens_per_day"), "users", "tokens_per_day > 0", postgresql_not_valid=True
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_users_tokens_per_day"), "users")
    for column in ("tokens_day", "tokens_used", "tokens_per_day"):
        op.drop_column("users", column)
    for column in ("quota_estimated", "quota_tokens", "slot"):
        op.drop_column("turns", column)
