"""Plain names of a table and of three columns.

Locks: ACCESS EXCLUSIVE on two small tables, for the time of a change in the catalogue. Code of the release before does
not know the new names, so this is done once, before the first release: docs/adr/0024-plain-names.md.
"""

from alembic import op

revision = "0023"
down_revision = "0022"

RENAMED = (
    ("renaming-table", "ALTER TABLE {} RENAME TO {}", "erasures_under_way", "pending_erasures"),
    ("renaming-object", "ALTER INDEX {} RENAME TO {}", "pk_erasures_under_way", "pk_pending_erasures"),
    ("renaming-column", "ALTER TABLE archive_runs RENAME {} TO {}", "seen", "examined"),
    ("renaming-column", "ALTER TABLE archive_runs RENAME {} TO {}", "passed_over", "skipped"),
    ("renaming-column", "ALTER TABLE archive_runs RENAME {} TO {}", "unfit", "rejected"),
)


def upgrade() -> None:
    for rule, statement, old, new in RENAMED:
        op.execute(f"-- squawk-ignore {rule}\n{statement.format(old, new)}")


def downgrade() -> None:
    for _, statement, old, new in reversed(RENAMED):
        op.execute(statement.format(new, old))
