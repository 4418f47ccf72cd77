"""Plans: what is in one, in which order, and what a file must be to be one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.errors import InvalidInput
from ops.checks.indexes import unused as unused_check
from ops.checks.indexes.steps import Lock, Step
from ops.indexes.planfile import read_plan, write_plan
from ops.indexes.planning import Database, Plan, make_plan
from tests.ops.indexes.conftest import BUILDING, House, holding, working

OURS = "ix_turns_conversation"


def checks(plan: Plan) -> list[str]:
    return [step.check for step in plan.steps]


def test_with_nothing_wrong_there_is_nothing_to_plan(house: House) -> None:
    plan = make_plan(house.probe)
    assert (plan.steps, plan.left_out) == ((), ())


def test_what_is_broken_comes_first_and_what_is_too_much_last(house: House) -> None:
    house.run(
        "ALTER TABLE users SET (autovacuum_enabled = off)",
        "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), n || '@b', 'a', 'x'"
        " FROM generate_series(1, 3000) AS n",
        "SELECT pg_stat_force_next_flush()",
        "CREATE INDEX twice ON turns (user_id, conversation_id)",
        "CREATE INDEX short ON conversations (user_id, status)",
        "DROP INDEX ix_sessions_expires_at",
        "ALTER TABLE conversations ADD COLUMN odd uuid REFERENCES users",
    )
    break_rebuild(house)
    plan = make_plan(house.probe)
    assert checks(plan) == [
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
    assert (twice.lock, twice.relies_on) == (Lock.BUILD, f"public.{OURS}")
    assert all(step.ours and step.owned for step in plan.steps)


def break_rebuild(house: House) -> None:
    """Leave behind what a REINDEX CONCURRENTLY of one of ours leaves when its session is killed."""
    lock = "LOCK TABLE turns IN ROW EXCLUSIVE MODE"
    with holding(house, lock), working(house, f"REINDEX INDEX CONCURRENTLY {OURS}", BUILDING) as work:
        house.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        work.end()


def test_other_peoples_tables_are_planned_only_if_asked_for(house: House) -> None:
    house.run("CREATE TABLE theirs (a int)", "CREATE INDEX one ON theirs (a)", "CREATE INDEX two ON theirs (a)")
    plan = make_plan(house.probe)
    assert plan.steps == ()
    assert [each.why for each in plan.left_out] == ["its table is not one of Parley's; --all-tables plans it too"]
    assert [step.sql for step in make_plan(house.probe, all_tables=True).steps] == [
        ("DROP INDEX CONCURRENTLY public.two",)
    ]


def test_one_check_alone_can_be_planned(house: House) -> None:
    house.run("CREATE INDEX twice ON turns (user_id, conversation_id)", "DROP INDEX ix_sessions_expires_at")
    assert checks(make_plan(house.probe, only=["indexes.duplicate"])) == ["indexes.duplicate"]


def test_two_that_do_one_work_are_never_both_dropped(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The narrow one is covered by the wide one; the wide one, nobody has ever used."""
    monkeypatch.setattr(unused_check, "LEAST_BYTES", 1)
    monkeypatch.setattr(unused_check, "COUNTED_FOR", timedelta(0))
    house.run(
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
    plan = make_plan(house.probe, only=["indexes.redundant", "indexes.unused"])
    assert [step.sql for step in plan.steps] == [("DROP INDEX CONCURRENTLY public.wide",)]
    assert "public.wide is to go as well; plan again afterwards" in {each.why for each in plan.left_out}


def test_a_missing_index_that_serves_a_foreign_key_is_built_once(house: House) -> None:
    house.run("DROP INDEX ix_conversations_project")
    plan = make_plan(house.probe)
    assert checks(plan) == ["indexes.expected"]
    assert [each.check for each in plan.left_out] == ["indexes.foreign_keys"]


def test_what_could_not_be_judged_is_said(house: House) -> None:
    house.run("DROP EXTENSION amcheck", "DROP TABLE turn_events")
    told = {each.check: each.why for each in make_plan(house.probe).left_out}
    assert "CREATE EXTENSION amcheck" in told["indexes.corruption"]
    assert "migrations.current" in told["indexes.expected"]


def test_whoever_does_not_own_a_table_plans_nothing_on_it(house: House, weak: Any) -> None:
    house.run("CREATE INDEX twice ON turns (user_id, conversation_id)")
    weak()
    plan = make_plan(house.probe)
    assert plan.steps == ()
    assert "does not own the table" in {each.check: each.why for each in plan.left_out}["indexes.duplicate"]


def test_sizes_and_times_are_those_of_what_is_read(house: House) -> None:
    house.run(
        "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), n || '@b', repeat('x', 90), 'x'"
        " FROM generate_series(1, 20000) AS n",
        "SELECT pg_stat_force_next_flush()",  # else the rows are counted after ANALYZE, as changes since then
        "ANALYZE users",
        "DROP INDEX uq_users_email",
    )
    (step,) = make_plan(house.probe).steps
    assert step.table_bytes == house.value("SELECT pg_relation_size('users')")
    assert step.reads_bytes == 2 * step.table_bytes
    assert step.disk_bytes == step.table_bytes


# The file


def a_plan(**changes: Any) -> Plan:
    step = Step(
        check="indexes.duplicate", why="because", table="t", index='public."i % x"', sql=("DROP INDEX CONCURRENTLY i",),
        undo=("CREATE INDEX i",), lock=Lock.BUILD, table_bytes=1, index_bytes=2, reads_bytes=3_600_000_000,
    )  # fmt: skip
    database = Database(system="7711119315016955011", name="parley", oid=16384)
    fields = {"made_at": datetime.now(UTC), "database": database, "version": 180006, "steps": (step,), "left_out": ()}
    return Plan(**{**fields, **changes})


def test_a_plan_is_read_as_it_was_written(house: House, tmp_path: Path) -> None:
    house.run("CREATE INDEX twice ON turns (user_id, conversation_id)", "DROP EXTENSION amcheck")
    for number, plan in enumerate((make_plan(house.probe), a_plan())):
        path = tmp_path / f"{number}.json"
        write_plan(plan, path)
        assert read_plan(path) == plan
    assert orjson.loads(path.read_bytes())["steps"][0]["estimated_minutes"] == 3.0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0.json", "1.json"]


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
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
        (lambda data: [], "no plan of this version"),
        (lambda data: {**data, "schema": "parley.index-plan/2"}, "no plan of this version"),
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
def test_what_is_no_plan_is_refused_in_words(tmp_path: Path, change: Any, complaint: str) -> None:
    path = tmp_path / "plan.json"
    write_plan(a_plan(), path)
    made = change(orjson.loads(path.read_bytes()))
    path.write_bytes(made if isinstance(made, bytes) else orjson.dumps(made))
    with pytest.raises(InvalidInput, match=complaint):
        read_plan(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(InvalidInput, match="cannot be read: Is a directory"):
        read_plan(tmp_path)
