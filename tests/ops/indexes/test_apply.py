"""Applying a plan: what it mends, what it refuses, and what it leaves when it is cut off."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from app.errors import InvalidInput
from app.extensions import db
from app.factory import create_app
from ops.errors import AnotherRunIsUnderWay
from ops.findings import CannotJudge
from ops.indexes import apply as apply_module
from ops.indexes import preconditions, running
from ops.indexes.apply import ALONE, Applied, Outcome, StepTaken, apply
from ops.indexes.planning import Plan, make_plan
from ops.indexes.preconditions import free_bytes, quiet_hours
from ops.levels import Level
from ops.locks import lock_key
from tests.ops.conftest import SECONDS, eventually
from tests.ops.indexes.conftest import BUILDING, House, holding, run_on, working

OURS = "ix_turns_conversation"
REBUILD = f"REINDEX INDEX CONCURRENTLY {OURS}"
WRITER = "LOCK TABLE turns IN ROW EXCLUSIVE MODE"
BROKEN = f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{OURS}'::regclass"
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"


def plan_for(house: House, *statements: str, **options: Any) -> Plan:
    house.run(*statements)
    plan = make_plan(house.probe, **options)
    assert plan.steps
    return plan


def do(plan: Plan, **options: Any) -> Applied:
    return apply(plan=plan, **{"now": True, **options})


def do_beside(flask_app: Flask, plan: Plan) -> Applied:
    """In another thread."""
    with flask_app.app_context():
        return do(plan)


def one(applied: Applied) -> StepTaken:
    (step,) = applied.steps
    return step


FAULTS = {
    "missing": [f"DROP INDEX {OURS}"],
    "renamed": [f"ALTER INDEX {OURS} RENAME TO elsewhere"],
    "other": [f"DROP INDEX {OURS}", f"CREATE INDEX {OURS} ON turns (conversation_id)"],
    "other, with a twin": [
        f"ALTER INDEX {OURS} RENAME TO twin",
        f"CREATE INDEX {OURS} ON turns (conversation_id)",
    ],
    "duplicate": ["CREATE INDEX twice ON turns (user_id, conversation_id)"],
    "redundant": ["CREATE INDEX short ON conversations (user_id, status)"],
    "foreign key": ['ALTER TABLE conversations ADD COLUMN "an odd % one" uuid REFERENCES users'],
    "statistics": [
        "ALTER TABLE users SET (autovacuum_enabled = off)",
        "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), n || '@b', 'a', 'x'"
        " FROM generate_series(1, 3000) AS n",
        "SELECT pg_stat_force_next_flush()",
    ],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_planned_is_mended_and_can_be_taken_back(house: House, applying: Flask, fault: str) -> None:
    plan = plan_for(house, *FAULTS[fault])
    taken = one(applied := do(plan))
    assert (applied.level, taken.outcome, taken.reason) == (Level.OK, Outcome.DONE, None)
    assert make_plan(house.probe).steps == ()
    assert one(do(plan)).outcome is Outcome.NOT_NEEDED
    if taken.undo:
        house.run(*taken.undo)
        assert make_plan(house.probe).steps != ()


def test_before_and_after_are_told(house: House, applying: Flask) -> None:
    house.run(
        "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), n || '@b', 'a', 'x'"
        " FROM generate_series(1, 3000) AS n",
        "ANALYZE users",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'uq_users_email'::regclass",
    )
    taken = one(do(make_plan(house.probe)))
    assert (taken.before["valid"], taken.after["valid"]) == (False, True)
    assert taken.before["definition"] == taken.after["definition"]
    assert taken.before["bytes"] >= taken.after["bytes"] > 0
    house.run("CREATE INDEX twice ON turns (user_id, conversation_id)")
    dropped = one(do(make_plan(house.probe, only=["indexes.duplicate"])))
    assert (dropped.before["valid"], dict(dropped.after)) == (True, {})


def test_a_dry_run_changes_nothing(house: House, applying: Flask) -> None:
    plan = plan_for(house, f"DROP INDEX {OURS}")
    applied = do(plan, dry_run=True, now=False)
    assert (one(applied).outcome, applied.level, applied.dry_run) == (Outcome.WOULD_BE_DONE, Level.OK, True)
    assert house.value("SELECT to_regclass(%(name)s)", name=OURS) is None


def test_steps_are_taken_in_order_and_one_failure_does_not_stop_the_others(house: House, applying: Flask) -> None:
    person = "INSERT INTO users (id, email, name, password_hash) VALUES (gen_random_uuid(), 'A@b', 'a', 'x')"
    plan = plan_for(house, "DROP INDEX uq_users_email", f"DROP INDEX {OURS}", person, person)
    applied = do(plan)
    told = {step.index: step for step in applied.steps}
    assert told["public.uq_users_email"].outcome is Outcome.FAILED
    assert "is duplicated" in str(told["public.uq_users_email"].reason)
    assert told["public.uq_users_email"].cleaned == ("public.uq_users_email",)
    assert told[f"public.{OURS}"].outcome is Outcome.DONE
    assert applied.level is Level.CRITICAL
    assert house.run(INVALID) == []


# What it refuses


def test_another_run_under_way_is_not_joined(house: House, applying: Flask) -> None:
    plan = plan_for(house, f"DROP INDEX {OURS}")
    other = house.open()
    run_on(other, f"SELECT pg_advisory_lock({lock_key(ALONE)})")
    with pytest.raises(AnotherRunIsUnderWay):
        do(plan)
    assert house.value("SELECT to_regclass(%(name)s)", name=OURS) is None
    other.close()
    ours = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    eventually(lambda: house.value(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND {ours}") == 0)
    assert one(do(plan)).outcome is Outcome.DONE


def test_a_plan_for_something_else_is_refused(house: House, applying: Flask) -> None:
    plan = plan_for(house, f"DROP INDEX {OURS}")
    for change, complaint in (
        ({"database": replace(plan.database, system="1")}, "and this is"),
        ({"database": replace(plan.database, name="other")}, "is for database other"),
        ({"database": replace(plan.database, oid=1)}, "and this is"),
        ({"version": 140000}, "another major version"),
        ({"made_at": plan.made_at - timedelta(days=8)}, "7 days are the limit"),
        ({"made_at": plan.made_at + timedelta(hours=1)}, "one of the two is wrong"),
    ):
        with pytest.raises(InvalidInput, match=complaint):
            do(replace(plan, **change))  # type: ignore[arg-type]
    assert house.value("SELECT to_regclass(%(name)s)", name=OURS) is None


def test_statements_that_no_check_suggests_are_not_run(house: House, applying: Flask) -> None:
    plan = plan_for(house, f"DROP INDEX {OURS}")
    evil = replace(plan.steps[0], sql=("DROP TABLE messages",))
    unknown = replace(plan.steps[0], check="indexes.made_up")
    applied = do(replace(plan, steps=(evil, unknown)))
    assert {step.outcome for step in applied.steps} == {Outcome.NOT_NEEDED}
    assert house.value("SELECT to_regclass('messages')") is not None


def test_an_old_transaction_holds_it_back(house: House, applying: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for(house, f"DROP INDEX {OURS}")
    with holding(house, "SELECT 1"):
        assert one(do(plan, dry_run=True)).outcome is Outcome.WOULD_BE_DONE  # it is young yet
        monkeypatch.setattr(preconditions, "OLD_TRANSACTION", timedelta(0))
        with pytest.raises(CannotJudge, match=r"has had a transaction open for .*idle in transaction"):
            do(plan)
    assert one(do(plan)).outcome is Outcome.DONE


def test_a_transaction_that_cannot_be_seen_holds_it_back(house: House, applying: Flask, weak: Any) -> None:
    plan = plan_for(house, f"DROP INDEX {OURS}")
    with holding(house, "SELECT 1"):
        weak()
        with pytest.raises(CannotJudge, match="cannot be seen by this role") as raised:
            preconditions.no_old_transaction(house.probe, [])
    assert "pg_read_all_stats" in str(raised.value.remedy)
    assert plan.steps


@pytest.mark.parametrize(
    ("hours", "quiet"),
    [("01-05", [1, 4]), ("22-04", [0, 3, 22, 23]), ("00-24", [0, 12, 23]), ("23-24", [23]), ("05-01", [0, 5, 23])],
)
def test_the_hours(hours: str, quiet: list[int]) -> None:
    for hour in quiet:
        assert quiet_hours(hours, datetime(2026, 1, 1, hour, 59, tzinfo=UTC))
    loud = {hour for hour in range(24) if not quiet_hours(hours, datetime(2026, 1, 1, hour, tzinfo=UTC))}
    assert not loud & set(quiet)
    assert len(loud) == {"01-05": 20, "22-04": 18, "00-24": 0, "23-24": 23, "05-01": 4}[hours]


def test_outside_of_the_hours_it_does_not_begin(house: House, applying: Flask) -> None:
    plan = plan_for(house, f"DROP INDEX {OURS}")
    now = house.value("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')::int")
    hours = f"{(now + 2) % 24:02}-{(now + 4) % 24:02}"
    settings = applying.extensions["parley"].settings
    database = settings.database.model_copy(update={"index_hours": hours})
    object.__setattr__(applying.extensions["parley"], "settings", replace(settings, database=database))
    with pytest.raises(CannotJudge, match=rf"during {hours} \(INDEX_APPLY_HOURS\)"):
        apply(plan=plan)
    assert one(apply(plan=plan, now=True)).outcome is Outcome.DONE


def test_disk_that_does_not_suffice_holds_a_step_back(house: House, applying: Flask) -> None:
    plan = plan_for(house, FAULTS["foreign key"][0], "INSERT INTO conversations SELECT FROM conversations")
    step = replace(plan.steps[0], disk_bytes=1_000_000)
    with pytest.raises(CannotJudge, match=r"twice that is to be free, and only 1.9 MiB are"):
        preconditions.disk_suffices(house.probe, step, 1_999_999)
    preconditions.disk_suffices(house.probe, step, 2_000_000)
    with pytest.raises(CannotJudge, match="twice that"):
        preconditions.disk_suffices(house.probe, replace(step, disk_bytes=10**18), None)


def test_disk_is_seen_where_the_server_is_here(house: House) -> None:
    folder = house.value("SHOW data_directory")
    free = free_bytes(
        house.probe, house.value("SELECT dattablespace FROM pg_database WHERE datname = current_database()")
    )
    assert free is not None
    assert abs(free - shutil.disk_usage(folder).free) < 10**9


def test_disk_that_cannot_be_seen_has_to_be_said(house: House, weak: Callable[[], None]) -> None:
    plan = plan_for(house, FAULTS["foreign key"][0])
    step = replace(plan.steps[0], disk_bytes=1)
    weak()
    assert free_bytes(house.probe, 0) is None
    with pytest.raises(CannotJudge, match="cannot be seen from here") as raised:
        preconditions.disk_suffices(house.probe, step, None)
    assert "--assume-disk" in str(raised.value.remedy)
    preconditions.disk_suffices(house.probe, step, 10)


def test_a_step_that_takes_longer_than_is_left_is_held_back(house: House, applying: Flask) -> None:
    plan = plan_for(house, f"DROP INDEX {OURS}")
    for step, minutes in ((replace(plan.steps[0], reads_bytes=10**11), 30), (plan.steps[0], 0.5)):
        taken = one(do(replace(plan, steps=(step,)), max_minutes=minutes))
        assert (taken.outcome, str(taken.reason).partition(" ")[2]) == (Outcome.HELD_BACK, "minutes are left for it")


def test_a_locked_table_holds_a_step_back(house: House, applying: Flask) -> None:
    plan = plan_for(house, *FAULTS["renamed"])
    with holding(house, "LOCK TABLE turns IN ACCESS EXCLUSIVE MODE"):
        taken = one(do(plan))
    assert (taken.outcome, "holds public.turns locked" in str(taken.reason)) == (Outcome.HELD_BACK, True)
    assert one(do(plan)).outcome is Outcome.DONE


# The two budgets


def test_a_build_waits_for_others_longer_than_any_lock_timeout(house: House) -> None:
    """The trap: with a lock timeout it would fail here, and leave an invalid index behind."""
    plan = plan_for(house, BROKEN)
    timeout, database = 200, house.settings.database
    flask_app = create_app(replace(house.settings, database=database.model_copy(update={"lock_timeout_ms": timeout})))
    waited = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'virtualxid'"
        " AND waitstart < clock_timestamp() - make_interval(secs => %(seconds)s)"
    )
    with ThreadPoolExecutor(1) as threads:
        with holding(house, WRITER):
            applied = threads.submit(do_beside, flask_app, plan)
            eventually(lambda: applied.done() or house.value(waited, seconds=2 * timeout / 1000) == 1)
            assert not applied.done()
        assert one(applied.result(SECONDS)).outcome is Outcome.DONE
    with flask_app.app_context():
        db.engine.dispose()
    assert house.run(INVALID) == []


def test_any_other_statement_waits_for_its_lock_for_seconds_only(
    house: House, applying: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LOCK_SECONDS", 0.1)
    plan = plan_for(house, *FAULTS["renamed"])
    with holding(house, "COMMENT ON INDEX elsewhere IS 'held'"):
        taken = one(do(plan))
    assert (taken.outcome, "lock timeout" in str(taken.reason)) == (Outcome.FAILED, True)
    assert (taken.cleaned, taken.left_behind) == ((), ())
    assert one(do(plan)).outcome is Outcome.DONE


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options for a run that has no more than a second for its step."""
    monkeypatch.setattr(apply_module, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(apply_module, "CLEANING_SECONDS", 1.0)
    return {"max_minutes": 1 / 60}


def test_what_a_rebuild_leaves_when_its_time_is_up_is_dropped_and_nothing_else(
    house: House, applying: Flask, impatient: dict[str, Any]
) -> None:
    house.run("CREATE TABLE theirs (a int)")
    with (
        holding(house, "LOCK TABLE theirs IN ROW EXCLUSIVE MODE"),
        working(house, "CREATE INDEX CONCURRENTLY theirs_ccnew ON theirs (a)", BUILDING) as work,
    ):
        house.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        work.end()
    plan = plan_for(house, BROKEN)
    # An unrelated snapshot: it is in nobody's way but that of a build.
    with holding(house, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM theirs"):
        taken = one(do(plan, **impatient))
    assert (taken.outcome, "statement timeout" in str(taken.reason)) == (Outcome.FAILED, True)
    assert taken.left_behind == ()
    assert house.run(INVALID) == [(OURS,), ("theirs_ccnew",)]
    assert one(do(plan)).outcome is Outcome.DONE
    assert house.run(INVALID) == [("theirs_ccnew",)]


def test_what_cannot_be_dropped_is_named_and_the_next_plan_drops_it(
    house: House, applying: Flask, impatient: dict[str, Any]
) -> None:
    plan = plan_for(house, BROKEN)
    with holding(house, WRITER):
        taken = one(do(plan, **impatient))
    assert taken.outcome is Outcome.FAILED
    assert taken.left_behind == (f"public.{OURS}_ccnew",)
    after = do(make_plan(house.probe))
    assert {step.outcome for step in after.steps} == {Outcome.DONE}
    assert house.run(INVALID) == []
    assert make_plan(house.probe).steps == ()


def test_a_session_that_is_killed_in_the_middle(house: House, applying: Flask) -> None:
    plan = plan_for(house, f"DROP INDEX {OURS}", "CREATE INDEX twice ON turns (user_id, attempt)",
                    "CREATE INDEX thrice ON turns (user_id, attempt)")  # fmt: skip
    building = (
        "SELECT pid FROM pg_stat_progress_create_index"
        " WHERE phase LIKE 'waiting for %' AND datname = current_database()"  # others build on this server, too
    )
    with ThreadPoolExecutor(1) as threads, holding(house, WRITER):
        applied = threads.submit(do_beside, applying, plan)
        eventually(lambda: applied.done() or bool(house.run(building)))
        ((pid,),) = house.run(building)
        house.run("SELECT pg_terminate_backend(%(pid)s)", pid=pid)
        first, second = applied.result(SECONDS).steps
    assert (first.outcome, second.outcome) == (Outcome.FAILED, Outcome.HELD_BACK)
    assert second.reason == "the session was lost"
    assert first.left_behind
    assert house.run(INVALID) == [(OURS,)]
    assert {step.outcome for step in do(make_plan(house.probe)).steps} == {Outcome.DONE}
    assert (house.run(INVALID), make_plan(house.probe).steps) == ([], ())


REPLACED = f"CREATE INDEX {OURS} ON turns (conversation_id)"
DRAFT = f"CREATE INDEX {OURS}_parley ON turns (user_id, conversation_id)"


@pytest.mark.parametrize(
    "state",
    [
        [REPLACED],
        [REPLACED, DRAFT, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{OURS}_parley'::regclass"],
        [REPLACED, DRAFT],
        [REPLACED, DRAFT, BROKEN],
        [DRAFT],
    ],
    ids=["before it", "in the build", "after the build", "in the drop", "before the new name"],
)
def test_a_replacement_that_was_cut_off_anywhere_is_gone_on_with(
    house: House, applying: Flask, state: list[str]
) -> None:
    house.run(f"DROP INDEX {OURS}", *state)
    for _ in range(2):
        assert {step.outcome for step in do(make_plan(house.probe)).steps} <= {Outcome.DONE, Outcome.NOT_NEEDED}
    assert make_plan(house.probe).steps == ()
    left = house.run("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'turns'::regclass")
    assert (OURS,) in left
    assert (f"{OURS}_parley",) not in left
    assert house.run(INVALID) == []
