"""Isolation by keys, read from PostgreSQL's catalogue, for every table that users own."""

import pytest
from sqlalchemy import Engine, text

# The table of users, and the tables of the operator.
NOT_OWNED = {
    "users",
    "settings",
    "job_runs",
    "job_cancellations",
    "archive_runs",
    "audit_events",
    "audit_seals",
    "erasures",
    "pending_erasures",
    "leases",
    "check_acknowledgements",
    "mcp_servers",
    "file_removals",
    "provider_file_removals",
    "alembic_version",
}


def _columns(engine: Engine, query: str) -> dict[str, list[str]]:
    with engine.connect() as connection:
        return {row[0]: list(row[1]) for row in connection.execute(text(query))}


@pytest.fixture(scope="module")
def tables(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        return {row[0] for row in rows} - NOT_OWNED


def test_primary_key_of_owned_table_begins_with_owner(engine: Engine, tables: set[str]) -> None:
    keys = _columns(
        engine,
        """
        SELECT c.conrelid::regclass::text, array_agg(a.attname::text ORDER BY k.place)
          FROM pg_constraint c CROSS JOIN unnest(c.conkey) WITH ORDINALITY AS k(attnum, place)
          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
         WHERE c.contype = 'p' AND c.connamespace = 'public'::regnamespace GROUP BY c.conrelid""",
    )
    assert tables
    assert {table: keys[table][0] for table in tables} == dict.fromkeys(tables, "user_id")


def test_foreign_key_between_owned_tables_contains_owner(engine: Engine, tables: set[str]) -> None:
    references = _columns(
        engine,
        """
        SELECT c.conname, array_agg(a.attname::text) FROM pg_constraint c CROSS JOIN unnest(c.conkey) AS k(attnum)
          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
         WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace GROUP BY c.conname""",
    )
    assert references
    assert [name for name, columns in references.items() if "user_id" not in columns] == []


def test_unique_index_of_owned_table_contains_owner(engine: Engine, tables: set[str]) -> None:
    unique = _columns(
        engine,
        f"""
        SELECT i.indexrelid::regclass::text, array_agg(a.attname::text)
          FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_attribute a ON a.attrelid = i.indexrelid
         WHERE i.indisunique AND t.relnamespace = 'public'::regnamespace AND t.relname <> ALL(
               ARRAY{sorted(NOT_OWNED)}) GROUP BY i.indexrelid""",
    )
    assert unique
    assert [name for name, columns in unique.items() if "user_id" not in columns] == []


def test_messages_and_turns_reference_only_their_conversation(engine: Engine) -> None:
    """A foreign key from them to users would deadlock with the erasure of a user."""
    targets = _columns(
        engine,
        """
        SELECT conrelid::regclass::text, array_agg(confrelid::regclass::text) FROM pg_constraint
         WHERE contype = 'f' AND connamespace = 'public'::regnamespace GROUP BY conrelid""",
    )
    assert targets["messages"] == targets["turns"] == ["conversations"]
