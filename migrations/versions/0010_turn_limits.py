"""How many turns a user may have running, and how many tokens a day.

Locks: `turns` and `users` exclusively for a moment; columns without a default need no rewrite. The index of running
turns is replaced concurrently: few rows are in it, and the old one serves until the new one is there. Turns that run
meanwhile have no slot, and are not counted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_RUNNING = sa.text("status = 'running'")


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
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE users VALIDATE CONSTRAINT ck_users_tokens_per_day")
        op.create_index(
            "uq_turns_running",
            "turns",
            ["user_id", "slot"],
            unique=True,
            postgresql_where=_RUNNING,
            postgresql_concurrently=True,
        )
        op.drop_index("ix_turns_running", "turns", postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_turns_running", "turns", ["user_id", "id"], postgresql_where=_RUNNING, postgresql_concurrently=True
        )
        op.drop_index("uq_turns_running", "turns", postgresql_concurrently=True)
    op.drop_constraint(op.f("ck_users_tokens_per_day"), "users")
    for column in ("tokens_day", "tokens_used", "tokens_per_day"):
        op.drop_column("users", column)
    for column in ("quota_estimated", "quota_tokens", "slot"):
        op.drop_column("turns", column)
