"""One change of the stored bytes for each statement on `tasks`, not for each row.

All rows of a user change the same counter. In one statement, such as the cascade of an erasure, each change of it reads
all versions that the earlier ones left, which took minutes for 10,000 rows.

Locks: `tasks` against all access for a moment, while the triggers are replaced. No row is counted again.
"""

from alembic import op

revision = "0033"
down_revision = "0032"

SIZE = "octet_length(title) + coalesce(octet_length(description), 0)"  # bytes of a row that count as stored
EVENTS = {"INSERT": "NEW TABLE AS new_rows", "DELETE": "OLD TABLE AS old_rows"}
EVENTS["UPDATE"] = f"{EVENTS['INSERT']} {EVENTS['DELETE']}"

_NEW = f"SELECT user_id, {SIZE} AS bytes FROM new_rows"  # noqa: S608  # constants
_OLD = f"SELECT user_id, -({SIZE}) AS bytes FROM old_rows"  # noqa: S608


def _add(rows: str) -> str:
    return (
        "PERFORM add_stored_bytes(changed.user_id, changed.bytes) FROM"  # noqa: S608  # constants
        f" (SELECT user_id, sum(bytes)::bigint AS bytes FROM ({rows}) AS counted"
        " GROUP BY user_id ORDER BY user_id) AS changed;"
    )


BY_STATEMENT = f"""
CREATE OR REPLACE FUNCTION count_stored_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        {_add(_NEW)}
    ELSIF TG_OP = 'DELETE' THEN
        {_add(_OLD)}
    ELSE
        {_add(f"{_NEW} UNION ALL {_OLD}")}
    END IF;
    RETURN NULL;
END $$"""

# As in 0029.
BY_ROW = """
CREATE OR REPLACE FUNCTION count_stored_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM add_stored_bytes(OLD.user_id, -(octet_length(OLD.title) + coalesce(octet_length(OLD.description), 0)));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM add_stored_bytes(NEW.user_id, (octet_length(NEW.title) + coalesce(octet_length(NEW.description), 0)));
    END IF;
    RETURN NULL;
END $$"""


def upgrade() -> None:
    _drop_triggers()
    op.execute(BY_STATEMENT)
    for event, rows in EVENTS.items():
        op.execute(
            f"CREATE TRIGGER count_stored_{event.lower()} AFTER {event} ON tasks REFERENCING {rows}"
            " FOR EACH STATEMENT EXECUTE FUNCTION count_stored_tasks()"
        )


def downgrade() -> None:
    _drop_triggers()
    op.execute(BY_ROW)
    for event in EVENTS:
        op.execute(
            f"CREATE TRIGGER count_stored_{event.lower()} AFTER {event} ON tasks"
            " FOR EACH ROW EXECUTE FUNCTION count_stored_tasks()"
        )


def _drop_triggers() -> None:
    for event in EVENTS:
        op.execute(f"DROP TRIGGER count_stored_{event.lower()} ON tasks")
