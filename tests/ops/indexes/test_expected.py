"""The indexes that our models declare, against the real ones."""

import pytest
from alembic.script import ScriptDirectory

from ops.checks.indexes.declared import declared
from ops.checks.indexes.expected import expected
from ops.findings import CannotJudge
from ops.levels import Level
from tests.ops.indexes.conftest import House


def test_our_own_tables_are_as_declared(house: House) -> None:
    assert len(declared()) > 20
    assert list(expected(house.probe)) == []


def test_a_missing_one_is_critical_and_says_how_it_is_built(house: House) -> None:
    house.run("DROP INDEX ix_turns_conversation")
    (finding,) = expected(house.probe)
    assert (finding.level, finding.what) == (Level.CRITICAL, "turns lacks its index ix_turns_conversation.")
    assert finding.sql is not None
    house.run(finding.sql)
    assert list(expected(house.probe)) == []


def test_each_of_them_is_missed_and_comes_back_as_it_was(house: House) -> None:
    for name, index in declared().items():
        house.run(
            f"ALTER TABLE {index.table} DROP CONSTRAINT {name} CASCADE" if index.constraint else f"DROP INDEX {name}"
        )
        (finding,) = expected(house.probe)
        assert finding.evidence["index"] == name
        house.run(*str(finding.sql).split(";\n"))
        assert list(expected(house.probe)) == []


def test_a_renamed_one_is_known_again(house: House) -> None:
    house.run('ALTER INDEX ix_conversations_listing RENAME TO "by hand"')
    (finding,) = expected(house.probe)
    assert finding.level is Level.WARNING
    assert finding.sql == 'ALTER INDEX public."by hand" RENAME TO ix_conversations_listing;'
    house.run(finding.sql)
    assert list(expected(house.probe)) == []


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
    ("ix_job_runs_running", "job_runs (job) WHERE status = 'RUNNING'"),  # what no status is
    ("ix_job_runs_running", "job_runs ((job::text)) WHERE status = 'running'"),
    ("ix_turns_conversation", "turns (user_id, (conversation_id::text))"),  # an expression, and no column
    ("ix_job_runs_job", 'job_runs (job COLLATE "C", started_at DESC)'),
]


def test_one_made_by_hand_under_our_name_is_told_apart(house: House) -> None:
    for name, by_hand in BY_HAND:
        house.run(f"DROP INDEX {name}", f"CREATE INDEX {name} ON {by_hand}")
        (finding,) = expected(house.probe)
        assert finding.evidence["index"] in (name, f"public.{name}"), by_hand
        assert finding.level is (Level.CRITICAL if by_hand.startswith("messages") else Level.WARNING), by_hand
        house.run(f"DROP INDEX {name}", declared()[name].definition)
        assert list(expected(house.probe)) == [], by_hand


def test_a_unique_one_that_is_no_longer_unique_is_critical(house: House) -> None:
    house.run("DROP INDEX uq_users_email", "CREATE INDEX uq_users_email ON users (lower(email))")
    (finding,) = expected(house.probe)
    assert finding.level is Level.CRITICAL
    assert finding.sql is not None
    for statement in finding.sql.split(";\n"):
        house.run(statement)
    assert list(expected(house.probe)) == []


def test_an_index_alone_is_no_primary_key(house: House) -> None:
    house.run("ALTER TABLE job_runs DROP CONSTRAINT pk_job_runs", "CREATE UNIQUE INDEX pk_job_runs ON job_runs (id)")
    (finding,) = expected(house.probe)
    assert (finding.level, finding.evidence["constraint"]) == (Level.CRITICAL, None)
    house.run(str(finding.sql))
    assert list(expected(house.probe)) == []


def test_the_expression_of_a_made_up_one_is_compared_too(house: House) -> None:
    house.run("DROP INDEX uq_users_email", "CREATE UNIQUE INDEX uq_users_email ON users (upper(email))")
    (finding,) = expected(house.probe)
    assert "upper" in finding.evidence["found"]


def test_a_table_of_the_same_name_in_another_schema_is_not_ours(house: House) -> None:
    house.run(
        "CREATE SCHEMA other",
        "CREATE TABLE other.turns (user_id int, conversation_id int)",
        "CREATE INDEX ix_turns_conversation ON other.turns (user_id)",
    )
    assert list(expected(house.probe)) == []


def test_before_the_migrations_it_cannot_judge(house: House) -> None:
    house.run("DROP TABLE turn_events")
    with pytest.raises(CannotJudge, match="turn_events") as raised:
        list(expected(house.probe))
    assert raised.value.remedy == "flask ops doctor --only migrations.current"


def test_at_another_revision_it_cannot_judge(house: House) -> None:
    (head,) = ScriptDirectory("migrations").get_heads()
    house.run("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    house.run("INSERT INTO alembic_version VALUES (%(head)s)", head=head)
    assert list(expected(house.probe)) == []
    house.run("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(CannotJudge, match="0001") as raised:
        list(expected(house.probe))
    assert raised.value.remedy == "flask db upgrade"
    house.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CannotJudge, match="9999") as raised:
        list(expected(house.probe))
    assert raised.value.remedy == "flask ops doctor --only migrations.current"


def test_a_name_that_another_index_has_is_freed_first(house: House) -> None:
    house.run("DROP INDEX ix_turns_conversation", "CREATE INDEX ix_turns_conversation ON messages (created_at)")
    (finding,) = expected(house.probe)
    assert "an index of public.messages has its name" in finding.what
    house.run(str(finding.sql))
    (finding,) = expected(house.probe)
    house.run(str(finding.sql))
    assert list(expected(house.probe)) == []


def test_what_is_locked_is_left_out_and_said(house: House) -> None:
    holder = house.open()
    with holder.execution_options(isolation_level="READ COMMITTED").begin():
        holder.exec_driver_sql("LOCK TABLE turns IN ACCESS EXCLUSIVE MODE")
        (finding,) = expected(house.probe)
    assert (finding.level, finding.evidence["table"]) == (Level.UNKNOWN, "public.turns")
