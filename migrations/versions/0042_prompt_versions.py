"""Versions, drafts and variables of prompts; one change of the stored bytes for each statement on projects and prompts.

All rows of a user change the same counter. In one statement, such as the cascade of an erasure, each change of it reads
all versions that the earlier ones left, which took minutes for thousands of rows.

A prompt has its current content itself; the table has the earlier ones. So prompts that exist need no row: their
content is version 1, and counts as saved at the time of this migration.

Locks: those of the new table, and `projects` and `prompts` against all access for a moment, for the columns, whose
defaults are constant, and the triggers. No row is counted again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"

# The bytes of a row that count as stored: with this migration, and before it as in 0025.
SIZES = {
    "projects": "coalesce(octet_length({0}description), 0) + octet_length({0}settings::text)",
    "prompts": "octet_length({0}content) + coalesce(octet_length({0}draft), 0)",
}
EARLIER_SIZES = {**SIZES, "prompts": "octet_length({0}content)"}
EVENTS = {"INSERT": "NEW TABLE AS new_rows", "DELETE": "OLD TABLE AS old_rows"}
EVENTS["UPDATE"] = f"{EVENTS['INSERT']} {EVENTS['DELETE']}"

VERSIONS = """
CREATE FUNCTION count_stored_prompt_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM add_stored_bytes(changed.user_id, CASE TG_OP WHEN 'DELETE' THEN -changed.bytes ELSE changed.bytes END)
       FROM (SELECT user_id, sum(octet_length(content))::bigint AS bytes
               FROM changed_rows GROUP BY user_id ORDER BY user_id) AS changed;
    RETURN NULL;
END $$"""


def upgrade() -> None:
    op.add_column("prompts", sa.Column("variables", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("prompts", sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column(
        "prompts",
        sa.Column("version_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.add_column("prompts", sa.Column("draft", sa.String(length=50_000), nullable=True))
    op.create_table(
        "prompt_versions",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("prompt_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.String(length=50_000), nullable=False),
        sa.Column("variables", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "prompt_id"],
            ["prompts.user_id", "prompts.id"],
            name=op.f("fk_prompt_versions_prompts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "prompt_id", "number", name=op.f("pk_prompt_versions")),
    )
    op.execute(VERSIONS)
    for event, rows in (("INSERT", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER count_stored_{event.lower()} AFTER {event} ON prompt_versions REFERENCING {rows} TABLE AS"
            " changed_rows FOR EACH STATEMENT EXECUTE FUNCTION count_stored_prompt_versions()"
        )
    for table, size in SIZES.items():
        _drop_triggers(table)
        _count_by_statement(table, size.format(""))


def downgrade() -> None:
    for table, size in EARLIER_SIZES.items():
        _drop_triggers(table)
        _count_by_row(table, size)
    op.drop_table("prompt_versions")
    op.execute("DROP FUNCTION count_stored_prompt_versions()")
    for column in ("draft", "version_at", "version", "variables"):
        op.drop_column("prompts", column)


def _drop_triggers(table: str) -> None:
    for event in EVENTS:
        op.execute(f"DROP TRIGGER count_stored_{event.lower()} ON {table}")


def _count_by_statement(table: str, size: str) -> None:
    """Replace the function of a table, as in 0033, and create its triggers."""
    new = f"SELECT user_id, {size} AS bytes FROM new_rows"  # noqa: S608  # constants
    old = f"SELECT user_id, -({size}) AS bytes FROM old_rows"  # noqa: S608
    op.execute(
        f"""
CREATE OR REPLACE FUNCTION count_stored_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        {_add(new)}
    ELSIF TG_OP = 'DELETE' THEN
        {_add(old)}
    ELSE
        {_add(f"{new} UNION ALL {old}")}
    END IF;
    RETURN NULL;
END $$"""
    )
    for event, rows in EVENTS.items():
        op.execute(
            f"CREATE TRIGGER count_stored_{event.lower()} AFTER {event} ON {table} REFERENCING {rows}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION count_stored_{table}()"
        )


def _add(rows: str) -> str:
    return (
        "PERFORM add_stored_bytes(changed.user_id, changed.bytes) FROM"  # noqa: S608  # constants
        f" (SELECT user_id, sum(bytes)::bigint AS bytes FROM ({rows}) AS counted"
        " GROUP BY user_id ORDER BY user_id) AS changed;"
    )


def _count_by_row(table: str, size: str) -> None:
    """Replace the function of a table and create its triggers, both as in 0025."""
    new, old = size.format("NEW."), size.format("OLD.")
    op.execute(
        f"""
CREATE OR REPLACE FUNCTION count_stored_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM add_stored_bytes(OLD.user_id, -({old}));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM add_stored_bytes(NEW.user_id, {new});
    END IF;
    RETURN NULL;
END $$"""
    )
    for event, changed in {"INSERT": new, "DELETE": old, "UPDATE": f"{new} - ({old})"}.items():
        op.execute(
            f"CREATE TRIGGER count_stored_{event.lower()} AFTER {event} ON {table} FOR EACH ROW"
            f" WHEN ({changed} <> 0) EXECUTE FUNCTION count_stored_{table}()"
        )
