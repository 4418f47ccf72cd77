"""Validation of the CHECK on the status of job runs. Locks: none that block a run."""

from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    op.execute("ALTER TABLE job_runs VALIDATE CONSTRAINT ck_job_runs_status")


def downgrade() -> None:
    """Do nothing: a constraint stays valid."""
