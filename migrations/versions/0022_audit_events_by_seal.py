"""An index that finds the audit events of a seal, and those without one.

Locks: none that block the audit; the index is built concurrently and reads the table once. An index that an interrupted
run left is dropped first, so that the migration can be repeated.
"""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_audit_events_seal", "audit_events", postgresql_concurrently=True, if_exists=True)
        op.create_index("ix_audit_events_seal", "audit_events", ["seal", "id"], postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_audit_events_seal", "audit_events", postgresql_concurrently=True, if_exists=True)
