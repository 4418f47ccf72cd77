"""Cancellations of jobs, and the status `cancelled` of a run.

Locks: `job_runs` exclusively for a moment; the CHECK is not validated for existing rows, which satisfied a stricter
one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"

_BEFORE = "status IN ('running', 'succeeded', 'failed', 'skipped', 'lost')"
_AFTER = "status IN ('running', 'succeeded', 'failed', 'skipped', 'lost', 'cancelled')"


def upgrade() -> None:
    op.create_table(
        "job_cancellations",
        sa.Column("message_id", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cancelled_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("char_length(reason) <= 1000", name=op.f("ck_job_cancellations_reason")),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_job_cancellations")),
    )
    _check(_AFTER)


def downgrade() -> None:
    op.execute("UPDATE job_runs SET status = 'failed' WHERE status = 'cancelled'")
    _check(_BEFORE)
    op.drop_table("job_cancellations")


def _check(condition: str) -> None:
    # The next statement of the transaction creates it again.
    op.execute("-- squawk-ignore ban-drop-constraint\nALTER TABLE job_runs DROP CONSTRAINT ck_job_runs_status")
    op.create_check_constraint(op.f("ck_job_runs_status"), "job_runs", condition, postgresql_not_valid=True)
