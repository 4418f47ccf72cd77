"""The indexes that the models declare, compared with the database."""

import pytest
from alembic.script import ScriptDirectory

from ops.errors import UnknownState
from ops.indexes.checks.expected import expected
from ops.indexes.declared import declared_indexes
from ops.levels import Level
from tests.ops.indexes.conftest import IndexDatabase


def test_models_tables_match_their_declarations(database: IndexDatabase) -> None:
    assert len(declared_indexes()) > 20
    assert list(expected(database.context)) == []


def test_missing_index_is_critical_with_its_statement(database: IndexDatabase) -> None:
    database.run("DROP INDEX ix_turns_conversation")
    (finding,) = expected(database.context)
    assert (finding.level, finding.message) == (Level.CRITICAL, "turns lacks its index ix_turns_conversation.")
    assert finding.sql is not None
    database.run(finding.sql)
    assert list(expected(database.context)) == []


def test_each_declared_index_is_found_missing_and_restored(database: IndexDatabase) -> None:
    for name, index in declared_indexes().items():
        database.run(
            f"ALTER TABLE {index.table} DROP CONSTRAINT {name} CASCADE" if index.constraint else f"DROP INDEX {name}"
        )
        (finding,) = expected(database.context)
        assert finding.evidence["index"] == name
        database.run(*str(finding.sql).split(";\n"))
        assert list(expected(database.context)) == []


def test_renamed_index_is_recognized(database: IndexDatabase) -> None:
    database.run('ALTER INDEX ix_conversations_listing RENAME TO "by hand"')
    (finding,) = expected(database.context)
    assert finding.level is Level.WARNING
    assert finding.sql == 'ALTER INDEX public."by hand" RENAME TO ix_conversations_listing;'
    database.run(finding.sql)
    assert list(expected(database.context)) == []


BY_HAND = [
    ("ix_conversations_listing", "conversations (user_id, status, updated_at, id)"),  # not descending
    ("ix_conversations_listing", "conversations (user_id, status, updated_at DESC NULLS LAST, id)"),
    ("ix_conversations_listing", "conversations (user_id, status, updated_at DESC)"),
    ("ix_conversations_listing", "conversations (user_id, status, updated_at DESC) INCLUDE (id)"),
    ("ix_conversations_project", "conversations (user_id, project_id)"),  # not partial
    ("ix_conversations_project", "conversations (user_id, project_id) WHERE project_id IS NULL"),
    ("ix_job_runs_running", "job_runs (job) WHERE status = 'failed'"),
    ("ix_job_runs_running", "job_runs (id) WHERE status = 'running'"),
    ("ix_turns_conversation", "turns (user_id, attempt)"),
    ("ix_turns_conversation", "messages (user_id, conversation_id)"),  # of another table
    ("ix_conversation_search_document", "conversation_search USING gin (document)"),  # without its setting
    ("ix_turn_events_created_at", "turn_events (created_at)"),  # a B-tree
    ("ix_job_runs_job", "job_runs (job text_pattern_ops, started_at DESC)"),
    ("ix_job_runs_running", "job_runs (job) WHERE status = 'RUNNING'"),  # no such status exists
    ("ix_job_runs_running", "job_runs ((job::text)) WHERE status = 'running'"),
    ("ix_turns_conversation", "turns (user_id, (conversation_id::text))"),  # an expression instead of a column
    ("ix_job_runs_job", 'job_runs (job COLLATE "C", started_at DESC)'),
]


def test_different_index_under_a_declared_name_is_found(database: IndexDatabase) -> None:
    for name, by_hand in BY_HAND:
        database.run(f"DROP INDEX {name}", f"CREATE INDEX {name} ON {by_hand}")
        (finding,) = expected(database.context)
        assert finding.evidence["index"] in (name, f"public.{name}"), by_hand
        assert finding.level is (Level.CRITICAL if by_hand.startswith("messages") else Level.WARNING), by_hand
        database.run(f"DROP INDEX {name}", declared_indexes()[name].definition)
        assert list(expected(database.context)) == [], by_hand


def test_lost_uniqueness_is_critical(database: IndexDatabase) -> None:
    database.run("DROP INDEX uq_users_email", "CREATE INDEX uq_users_email ON users (lower(email))")
    (finding,) = expected(database.context)
    assert finding.level is Level.CRITICAL
    assert finding.sql is not None
    for statement in finding.sql.split(";\n"):
        database.run(statement)
    assert list(expected(database.context)) == []


def test_index_without_its_constraint_is_found(database: IndexDatabase) -> None:
    database.run("ALTER TABLE job_runs DROP CONSTRAINT pk_job_runs", "CREATE UNIQUE INDEX pk_job_runs ON job_runs (id)")
    (finding,) = expected(database.context)
    assert (finding.level, finding.evidence["constraint"]) == (Level.CRITICAL, None)
    database.run(str(finding.sql))
    assert list(expected(database.context)) == []


def test_different_expression_is_found(database: IndexDatabase) -> None:
    database.run("DROP INDEX uq_users_email", "CREATE UNIQUE INDEX uq_users_email ON users (upper(email))")
    (finding,) = expected(database.context)
    assert "upper" in finding.evidence["found"]


def test_table_in_another_schema_is_ignored(database: IndexDatabase) -> None:
    database.run(
        "CREATE SCHEMA other",
        "CREATE TABLE other.turns (user_id int, conversation_id int)",
        "CREATE INDEX ix_turns_conversation ON other.turns (user_id)",
    )
    assert list(expected(database.context)) == []


def test_missing_tables_are_unknown(database: IndexDatabase) -> None:
    database.run("DROP TABLE turn_events")
    with pytest.raises(UnknownState, match="turn_events") as raised:
        list(expected(database.context))
    assert raised.value.remedy == "flask ops doctor --only migrations.current"


def test_another_revision_is_unknown(database: IndexDatabase) -> None:
    (head,) = ScriptDirectory("migrations").get_heads()
    database.run("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    database.run("INSERT INTO alembic_version VALUES (%(head)s)", head=head)
    assert list(expected(database.context)) == []
    database.run("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(UnknownState, match="0001") as raised:
        list(expected(database.context))
    assert raised.value.remedy == "flask db upgrade"
    database.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnknownState, match="9999") as raised:
        list(expected(database.context))
    assert raised.value.remedy == "flask ops doctor --only migrations.current"


def test_name_taken_by_another_index_is_found(database: IndexDatabase) -> None:
    database.run("DROP INDEX ix_turns_conversation", "CREATE INDEX ix_turns_conversation ON messages (created_at)")
    (finding,) = expected(database.context)
    assert "an index of public.messages has its name" in finding.message
    database.run(str(finding.sql))
    (finding,) = expected(database.context)
    database.run(str(finding.sql))
    assert list(expected(database.context)) == []


def test_locked_table_is_reported_as_unread(database: IndexDatabase) -> None:
    holder = database.open()
    with holder.execution_options(isolation_level="READ COMMITTED").begin():
        holder.exec_driver_sql("LOCK TABLE turns IN ACCESS EXCLUSIVE MODE")
        (finding,) = expected(database.context)
    assert (finding.level, finding.evidence["table"]) == (Level.UNKNOWN, "public.turns")
