"""Stored bytes per user, counted by triggers.

Locks: `users` exclusively for a moment; the column needs no rewrite, and the CHECK is not validated for existing rows,
which cannot violate it. The tables with triggers are locked against writes for a moment. Rows that exist are not
counted here, because that reads all of them: the job `storage.recount` does it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"

# A row that no other transaction has locked takes the change, so that transactions of one user do not wait for each
# other. If all are locked, a new one does; its number is random, so that two transactions seldom choose the same one.
ADD = """
CREATE FUNCTION add_stored_bytes(owner uuid, delta bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF delta = 0 THEN
        RETURN;
    END IF;
    UPDATE stored_bytes SET bytes = bytes + delta
     WHERE user_id = owner
       AND shard = (SELECT shard FROM stored_bytes WHERE user_id = owner
                     ORDER BY shard LIMIT 1 FOR UPDATE SKIP LOCKED);
    IF NOT FOUND AND (delta > 0 OR EXISTS (SELECT FROM stored_bytes WHERE user_id = owner)) THEN
        INSERT INTO stored_bytes (user_id, shard, bytes)
        SELECT owner, coalesce(min(unused.shard), 0), delta
          FROM (SELECT number AS shard FROM generate_series(0, 999) AS number
                 WHERE number NOT IN (SELECT shard FROM stored_bytes WHERE user_id = owner)
                 ORDER BY random() LIMIT 1) AS unused
            ON CONFLICT (user_id, shard) DO UPDATE SET bytes = stored_bytes.bytes + excluded.bytes;
    END IF;
END $$"""

MESSAGE_BYTES = """coalesce(octet_length({0}content), 0) + coalesce(octet_length({0}tool_calls::text), 0)
               + octet_length({0}metadata::text)"""

# One call for each statement, because an import or a deletion has many messages.
MESSAGES = f"""
CREATE FUNCTION count_stored_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM add_stored_bytes(changed.user_id, CASE TG_OP WHEN 'DELETE' THEN -changed.bytes ELSE changed.bytes END)
       FROM (SELECT user_id, sum({MESSAGE_BYTES.format("")}) AS bytes
               FROM changed_rows GROUP BY user_id ORDER BY user_id) AS changed;
    RETURN NULL;
END $$"""  # noqa: S608  # a constant

# The bytes of one row of the other tables.
ROWS = {
    "conversations": "(octet_length({0}metadata::text) - 2)",  # without it, a turn in a conversation costs no call
    "conversation_archives": "octet_length({0}bundle)",
    "projects": "coalesce(octet_length({0}description), 0) + octet_length({0}settings::text)",
    "prompts": "octet_length({0}content)",
}


def upgrade() -> None:
    op.create_table(
        "stored_bytes",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "shard", name=op.f("pk_stored_bytes")),
    )
    op.add_column("users", sa.Column("max_bytes", sa.BigInteger(), nullable=True))
    op.create_check_constraint(op.f("ck_users_max_bytes"), "users", "max_bytes >= 0", postgresql_not_valid=True)
    op.execute(ADD)
    op.execute(MESSAGES)
    for event, rows in (("INSERT", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER count_stored_{event.lower()} AFTER {event} ON messages"
            f" REFERENCING {rows} TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION count_stored_messages()"
        )
    for table, size in ROWS.items():
        _count_rows(table, size)


def _count_rows(table: str, size: str) -> None:
    """Create the function and the triggers of a table whose rows are counted one by one."""
    new, old = size.format("NEW."), size.format("OLD.")
    op.execute(
        f"""
CREATE FUNCTION count_stored_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
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


def downgrade() -> None:
    for table in ("messages", *ROWS):
        for event in ("insert", "delete", *(() if table == "messages" else ("update",))):
            op.execute(f"DROP TRIGGER count_stored_{event} ON {table}")
        op.execute(f"DROP FUNCTION count_stored_{table}()")
    op.execute("DROP FUNCTION add_stored_bytes(uuid, bigint)")
    op.drop_constraint(op.f("ck_users_max_bytes"), "users")
    op.drop_column("users", "max_bytes")
    op.drop_table("stored_bytes")
