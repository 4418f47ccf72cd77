"""Plans: their steps and order, and the validation of plan files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.errors import InvalidInput
from ops.indexes.checks import unused as unused_check
from ops.indexes.plan_file import read_plan, write_plan
from ops.indexes.planning import Database, Plan, make_plan
from ops.indexes.steps import Step, StepLock
from tests.ops.indexes.conftest import BUILDING, IndexDatabase, open_transaction, running_statement

OURS = "ix_turns_conversation"


def planned_checks(plan: Plan) -> list[str]:
    return [step.check for step in plan.steps]


def test_database_without_findings_has_an_empty_plan(database: IndexDatabase) -> None:
    plan = make_plan(database.context)
    assert (plan.steps, plan.left_out) == ((), ())


def test_repairs_come_before_drops(database: IndexDatabase) -> None:
    database.run(
        "ALTER TABLE users SET (autovacuum_enabled = off)",
        "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), n || '@b', 'a', 'x'"
        " FROM generate_series(1, 3000) AS n",
        "SELECT pg_stat_force_next_flush()",
        "CREATE INDEX twice ON turns (user_id, conversation_id)",
        "CREATE INDEX short ON conversations (user_id, status)",
        "DROP INDEX ix_sessions_expires_at",
        "ALTER TABLE conversations ADD COLUMN odd uuid REFERENCES users",
    )
    break_rebuild(database)
    plan = make_plan(database.context)
    assert planned_checks(plan) == [
        "indexes.invalid",
        "indexes.expected",
        "indexes.foreign_keys",
        "tables.statistics",
        "indexes.duplicate",
        "indexes.redundant",
    ]
    by_check = {step.check: step for step in plan.steps}
    assert by_check["indexes.invalid"].sql == (f"DROP INDEX CONCURRENTLY public.{OURS}_ccnew",)
    assert by_check["indexes.expected"].undo == ("DROP INDEX CONCURRENTLY public.ix_sessions_expires_at",)
    twice = by_check["indexes.duplicate"]
    assert twice.undo == ("CREATE INDEX CONCURRENTLY twice ON public.turns USING btree (user_id, conversation_id)",)
    assert (twice.lock, twice.relies_on) == (StepLock.BUILD, f"public.{OURS}")
    assert all(step.is_parley_table and step.is_owner for step in plan.steps)


def break_rebuild(database: IndexDatabase) -> None:
    """Leave the copy of a REINDEX CONCURRENTLY whose session was killed."""
    lock = "LOCK TABLE turns IN ROW EXCLUSIVE MODE"
    with (
        open_transaction(database, lock),
        running_statement(database, f"REINDEX INDEX CONCURRENTLY {OURS}", BUILDING) as work,
    ):
        database.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        work.end()


def test_foreign_tables_need_the_option(database: IndexDatabase) -> None:
    database.run("CREATE TABLE theirs (a int)", "CREATE INDEX one ON theirs (a)", "CREATE INDEX two ON theirs (a)")
    plan = make_plan(database.context)
    assert plan.steps == ()
    assert [omission.reason for omission in plan.left_out] == [
        "its table is not one of Parley's; plan it with --all-tables"
    ]
    assert [step.sql for step in make_plan(database.context, all_tables=True).steps] == [
        ("DROP INDEX CONCURRENTLY public.two",)
    ]


def test_plan_of_a_single_check(database: IndexDatabase) -> None:
    database.run("CREATE INDEX twice ON turns (user_id, conversation_id)", "DROP INDEX ix_sessions_expires_at")
    assert planned_checks(make_plan(database.context, only=["indexes.duplicate"])) == ["indexes.duplicate"]


def test_mutually_redundant_indexes_are_not_both_dropped(
    database: IndexDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wide index covers the narrow one and is unused."""
    monkeypatch.setattr(unused_check, "MIN_BYTES", 1)
    monkeypatch.setattr(unused_check, "COUNTED_FOR", timedelta(0))
    database.run(
        "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), n || '@b', n::text, 'x'"
        " FROM generate_series(1, 3000) AS n",
        "CREATE INDEX narrow ON users (name)",
        "CREATE INDEX wide ON users (name, role)",
        "ANALYZE users",
        "DROP INDEX wide",
        "SELECT FROM users WHERE name = '77'",
        "CREATE INDEX wide ON users (name, role)",
        "SELECT pg_stat_force_next_flush()",
    )
    plan = make_plan(database.context, only=["indexes.redundant", "indexes.unused"])
    assert [step.sql for step in plan.steps] == [("DROP INDEX CONCURRENTLY public.wide",)]
    assert "public.wide is dropped as well; plan again afterwards" in {omission.reason for omission in plan.left_out}


def test_missing_index_of_a_foreign_key_is_built_once(database: IndexDatabase) -> None:
    database.run("DROP INDEX ix_conversations_project")
    plan = make_plan(database.context)
    assert planned_checks(plan) == ["indexes.expected"]
    assert [omission.check for omission in plan.left_out] == ["indexes.foreign_keys"]


def test_unknown_state_is_left_out_with_its_reason(database: IndexDatabase) -> None:
    database.run("DROP EXTENSION amcheck", "DROP TABLE turn_events")
    reasons = {omission.check: omission.reason for omission in make_plan(database.context).left_out}
    assert "CREATE EXTENSION amcheck" in reasons["indexes.corruption"]
    assert "migrations.current" in reasons["indexes.expected"]


def test_table_of_another_owner_is_left_out(database: IndexDatabase, drop_privileges: Any) -> None:
    database.run("CREATE INDEX twice ON turns (user_id, conversation_id)")
    drop_privileges()
    plan = make_plan(database.context)
    assert plan.steps == ()
    assert (
        "does not own the table" in {omission.check: omission.reason for omission in plan.left_out}["indexes.duplicate"]
    )


def test_estimates_follow_the_bytes_read(database: IndexDatabase) -> None:
    database.run(
        "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), n || '@b', repeat('x', 90), 'x'"
        " FROM generate_series(1, 20000) AS n",
        "SELECT pg_stat_force_next_flush()",  # otherwise the rows are counted after ANALYZE, as changes
        "ANALYZE users",
        "DROP INDEX uq_users_email",
    )
    (step,) = make_plan(database.context).steps
    assert step.table_bytes == database.value("SELECT pg_relation_size('users')")
    assert step.reads_bytes == 2 * step.table_bytes
    assert step.disk_bytes == step.table_bytes


# Plan files


def a_plan(**changes: Any) -> Plan:
    step = Step(
        check="indexes.duplicate", reason="why", table="t", index='public."i % x"', sql=("DROP INDEX CONCURRENTLY i",),
        undo=("CREATE INDEX i",), lock=StepLock.BUILD, table_bytes=1, index_bytes=2, reads_bytes=3_600_000_000,
    )  # fmt: skip
    database = Database(system="7711119315016955011", name="parley", oid=16384)
    fields = {"made_at": datetime.now(UTC), "database": database, "version": 180006, "steps": (step,), "left_out": ()}
    return Plan(**{**fields, **changes})


def test_plan_file_round_trip(database: IndexDatabase, tmp_path: Path) -> None:
    database.run("CREATE INDEX twice ON turns (user_id, conversation_id)", "DROP EXTENSION amcheck")
    for number, plan in enumerate((make_plan(database.context), a_plan())):
        path = tmp_path / f"{number}.json"
        write_plan(plan, path)
        assert read_plan(path) == plan
    assert orjson.loads(path.read_bytes())["steps"][0]["estimated_minutes"] == 3.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "1.json"]


def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("precious")
    with pytest.raises(InvalidInput, match="exists already"):
        write_plan(a_plan(), path)
    assert path.read_text() == "precious"
    with pytest.raises(InvalidInput, match="No such file"):
        write_plan(a_plan(), tmp_path / "nowhere" / "plan.json")


def changed(data: Any, *path: Any, to: Any) -> Any:
    *way, last = path
    inner = data
    for part in way:
        inner = inner[part]
    inner[last] = to
    return data


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda data: b"", "is not JSON"),
        (lambda data: b"\xff\xfe", "is not JSON"),
        (lambda data: orjson.dumps(data)[:-20], "is not JSON"),
        (lambda data: [], "not a plan of this version"),
        (lambda data: {**data, "schema": "parley.index-plan/1"}, "not a plan of this version"),
        (lambda data: {**data, "steps": "all"}, "damaged or was changed: steps"),
        (lambda data: {**data, "steps": [7]}, "damaged or was changed: steps.0"),
        (lambda data: changed(data, "steps", 0, "sql", to="DROP TABLE users"), "steps.0.sql"),
        (lambda data: changed(data, "steps", 0, "lock", to="none"), "steps.0.lock"),
        (lambda data: changed(data, "steps", 0, "more", to=1), "steps.0.more"),
        (lambda data: changed(data, "made_at", to="2026-01-01T00:00:00"), "no time zone"),
        (lambda data: changed(data, "made_at", to="soon"), "made_at"),
        (lambda data: {name: value for name, value in data.items() if name != "database"}, "database"),
    ],
)
def test_invalid_plan_file_is_refused_with_a_reason(tmp_path: Path, change: Any, complaint: str) -> None:
    path = tmp_path / "plan.json"
    write_plan(a_plan(), path)
    made = change(orjson.loads(path.read_bytes()))
    path.write_bytes(made if isinstance(made, bytes) else orjson.dumps(made))
    with pytest.raises(InvalidInput, match=complaint):
        read_plan(path)


def test_missing_plan_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(InvalidInput, match="cannot be read: Is a directory"):
        read_plan(tmp_path)
