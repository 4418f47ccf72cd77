"""Applying a plan: repairs, refusals, and interruptions."""

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
from ops.errors import AlreadyRunning, UnknownState
from ops.indexes import apply as apply_module
from ops.indexes import preconditions, statement_run
from ops.indexes.apply import LOCK_NAME, apply
from ops.indexes.apply_report import ApplyReport, Outcome, StepResult
from ops.indexes.planning import Plan, make_plan
from ops.indexes.preconditions import free_bytes, is_within_hours
from ops.levels import Level
from ops.runs.locks import lock_key
from tests.ops.conftest import SECONDS
from tests.ops.indexes.conftest import BUILDING, IndexDatabase, open_transaction, running_statement
from tests.ops.installation import run_on
from tests.waiting import wait_until

OURS = "ix_turns_conversation"
REBUILD = f"REINDEX INDEX CONCURRENTLY {OURS}"
WRITER = "LOCK TABLE turns IN ROW EXCLUSIVE MODE"
BROKEN = f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{OURS}'::regclass"
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"


def plan_after(database: IndexDatabase, *statements: str, **options: Any) -> Plan:
    database.run(*statements)
    plan = make_plan(database.context, **options)
    assert plan.steps
    return plan


def apply_plan(plan: Plan, **options: Any) -> ApplyReport:
    return apply(plan=plan, **{"now": True, **options})


def apply_plan_in_app(flask_app: Flask, plan: Plan) -> ApplyReport:
    """Apply the plan in the application's context, for another thread."""
    with flask_app.app_context():
        return apply_plan(plan)


def only_result(applied: ApplyReport) -> StepResult:
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
def test_applied_step_repairs_and_undo_reverts(database: IndexDatabase, index_app: Flask, fault: str) -> None:
    plan = plan_after(database, *FAULTS[fault])
    result = only_result(applied := apply_plan(plan))
    assert (applied.level, result.outcome, result.reason) == (Level.OK, Outcome.DONE, None)
    assert make_plan(database.context).steps == ()
    assert only_result(apply_plan(plan)).outcome is Outcome.NOT_NEEDED
    if result.undo:
        database.run(*result.undo)
        assert make_plan(database.context).steps != ()


def test_report_has_the_state_before_and_after(database: IndexDatabase, index_app: Flask) -> None:
    database.run(
        "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), n || '@b', 'a', 'x'"
        " FROM generate_series(1, 3000) AS n",
        "ANALYZE users",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'uq_users_email'::regclass",
    )
    result = only_result(apply_plan(make_plan(database.context)))
    assert (result.before["valid"], result.after["valid"]) == (False, True)
    assert result.before["definition"] == result.after["definition"]
    assert result.before["bytes"] >= result.after["bytes"] > 0
    database.run("CREATE INDEX twice ON turns (user_id, conversation_id)")
    dropped = only_result(apply_plan(make_plan(database.context, only=["indexes.duplicate"])))
    assert (dropped.before["valid"], dict(dropped.after)) == (True, {})


def test_a_dry_run_changes_nothing(database: IndexDatabase, index_app: Flask) -> None:
    plan = plan_after(database, f"DROP INDEX {OURS}")
    applied = apply_plan(plan, dry_run=True, now=False)
    assert (only_result(applied).outcome, applied.level, applied.dry_run) == (Outcome.WOULD_BE_DONE, Level.OK, True)
    assert database.value("SELECT to_regclass(%(name)s)", name=OURS) is None


def test_failed_step_does_not_stop_the_following_ones(database: IndexDatabase, index_app: Flask) -> None:
    person = "INSERT INTO users (id, email, name, password_hash) VALUES (gen_random_uuid(), 'A@b', 'a', 'x')"
    plan = plan_after(database, "DROP INDEX uq_users_email", f"DROP INDEX {OURS}", person, person)
    applied = apply_plan(plan)
    results = {step.index: step for step in applied.steps}
    assert results["public.uq_users_email"].outcome is Outcome.FAILED
    assert "is duplicated" in str(results["public.uq_users_email"].reason)
    assert results["public.uq_users_email"].cleaned == ("public.uq_users_email",)
    assert results[f"public.{OURS}"].outcome is Outcome.DONE
    assert applied.level is Level.CRITICAL
    assert database.run(INVALID) == []


# Refusals


def test_second_run_is_refused_while_one_is_active(database: IndexDatabase, index_app: Flask) -> None:
    plan = plan_after(database, f"DROP INDEX {OURS}")
    other = database.open()
    run_on(other, f"SELECT pg_advisory_lock({lock_key(LOCK_NAME)})")
    with pytest.raises(AlreadyRunning):
        apply_plan(plan)
    assert database.value("SELECT to_regclass(%(name)s)", name=OURS) is None
    other.close()
    ours = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    wait_until(lambda: database.value(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND {ours}") == 0)
    assert only_result(apply_plan(plan)).outcome is Outcome.DONE


def test_plan_for_another_database_or_time_is_refused(database: IndexDatabase, index_app: Flask) -> None:
    plan = plan_after(database, f"DROP INDEX {OURS}")
    for change, complaint in (
        ({"database": replace(plan.database, system="1")}, "and this is"),
        ({"database": replace(plan.database, name="other")}, "is for database other"),
        ({"database": replace(plan.database, oid=1)}, "and this is"),
        ({"version": 140000}, "another major version"),
        ({"made_at": plan.made_at - timedelta(days=8)}, "the limit is 7 days"),
        ({"made_at": plan.made_at + timedelta(hours=1)}, "one of them is wrong"),
    ):
        with pytest.raises(InvalidInput, match=complaint):
            apply_plan(replace(plan, **change))  # type: ignore[arg-type]
    assert database.value("SELECT to_regclass(%(name)s)", name=OURS) is None


def test_statement_that_no_check_plans_is_not_run(database: IndexDatabase, index_app: Flask) -> None:
    plan = plan_after(database, f"DROP INDEX {OURS}")
    evil = replace(plan.steps[0], sql=("DROP TABLE messages",))
    unknown = replace(plan.steps[0], check="indexes.made_up")
    applied = apply_plan(replace(plan, steps=(evil, unknown)))
    assert {step.outcome for step in applied.steps} == {Outcome.NOT_NEEDED}
    assert database.value("SELECT to_regclass('messages')") is not None


def test_old_transaction_prevents_the_start(
    database: IndexDatabase, index_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_after(database, f"DROP INDEX {OURS}")
    with open_transaction(database, "SELECT 1"):
        assert (
            only_result(apply_plan(plan, dry_run=True)).outcome is Outcome.WOULD_BE_DONE
        )  # the transaction is still young
        monkeypatch.setattr(preconditions, "OLD_TRANSACTION", timedelta(0))
        with pytest.raises(UnknownState, match=r"has had a transaction open for .*idle in transaction"):
            apply_plan(plan)
    assert only_result(apply_plan(plan)).outcome is Outcome.DONE


def test_hidden_transaction_prevents_the_start(database: IndexDatabase, index_app: Flask, drop_privileges: Any) -> None:
    plan = plan_after(database, f"DROP INDEX {OURS}")
    with open_transaction(database, "SELECT 1"):
        drop_privileges()
        with pytest.raises(UnknownState, match="This role cannot see") as raised:
            preconditions.require_no_old_transaction(database.context, [])
    assert "pg_read_all_stats" in str(raised.value.remedy)
    assert plan.steps


@pytest.mark.parametrize(
    ("hours", "quiet"),
    [("01-05", [1, 4]), ("22-04", [0, 3, 22, 23]), ("00-24", [0, 12, 23]), ("23-24", [23]), ("05-01", [0, 5, 23])],
)
def test_hours_may_cross_midnight(hours: str, quiet: list[int]) -> None:
    for hour in quiet:
        assert is_within_hours(hours, datetime(2026, 1, 1, hour, 59, tzinfo=UTC))
    loud = {hour for hour in range(24) if not is_within_hours(hours, datetime(2026, 1, 1, hour, tzinfo=UTC))}
    assert not loud & set(quiet)
    assert len(loud) == {"01-05": 20, "22-04": 18, "00-24": 0, "23-24": 23, "05-01": 4}[hours]


def test_plan_is_not_applied_outside_the_hours(database: IndexDatabase, index_app: Flask) -> None:
    plan = plan_after(database, f"DROP INDEX {OURS}")
    now = database.value("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')::int")
    hours = f"{(now + 2) % 24:02}-{(now + 4) % 24:02}"
    changed = database.settings.database.model_copy(update={"index_hours": hours})
    index_app.extensions["parley.settings"] = replace(database.settings, database=changed)
    with pytest.raises(UnknownState, match=rf"during {hours} \(INDEX_APPLY_HOURS\)"):
        apply(plan=plan)
    assert only_result(apply(plan=plan, now=True)).outcome is Outcome.DONE


def test_missing_disk_space_prevents_a_step(database: IndexDatabase, index_app: Flask) -> None:
    plan = plan_after(database, FAULTS["foreign key"][0], "INSERT INTO conversations SELECT FROM conversations")
    step = replace(plan.steps[0], disk_bytes=1_000_000)
    with pytest.raises(UnknownState, match=r"twice that must be free, and only 1.9 MiB are"):
        preconditions.require_disk_space(database.context, step, 1_999_999)
    preconditions.require_disk_space(database.context, step, 2_000_000)
    with pytest.raises(UnknownState, match="twice that"):
        preconditions.require_disk_space(database.context, replace(step, disk_bytes=10**18), None)


def test_free_space_of_a_local_server_is_read(database: IndexDatabase) -> None:
    folder = database.value("SHOW data_directory")
    free = free_bytes(
        database.context, database.value("SELECT dattablespace FROM pg_database WHERE datname = current_database()")
    )
    assert free is not None
    assert abs(free - shutil.disk_usage(folder).free) < 10**9


def test_unknown_free_space_requires_the_option(database: IndexDatabase, drop_privileges: Callable[[], None]) -> None:
    plan = plan_after(database, FAULTS["foreign key"][0])
    step = replace(plan.steps[0], disk_bytes=1)
    drop_privileges()
    assert free_bytes(database.context, 0) is None
    with pytest.raises(UnknownState, match="cannot be read from here") as raised:
        preconditions.require_disk_space(database.context, step, None)
    assert "--assume-disk" in str(raised.value.remedy)
    preconditions.require_disk_space(database.context, step, 10)


def test_step_longer_than_the_remaining_time_is_held_back(database: IndexDatabase, index_app: Flask) -> None:
    plan = plan_after(database, f"DROP INDEX {OURS}")
    for step, minutes in ((replace(plan.steps[0], reads_bytes=10**11), 30), (plan.steps[0], 0.5)):
        result = only_result(apply_plan(replace(plan, steps=(step,)), max_minutes=minutes))
        assert (result.outcome, str(result.reason).partition(" ")[2]) == (Outcome.HELD_BACK, "minutes are left for it")


def test_locked_table_holds_its_step_back(database: IndexDatabase, index_app: Flask) -> None:
    plan = plan_after(database, *FAULTS["renamed"])
    with open_transaction(database, "LOCK TABLE turns IN ACCESS EXCLUSIVE MODE"):
        result = only_result(apply_plan(plan))
    assert (result.outcome, "exclusive lock on public.turns" in str(result.reason)) == (Outcome.HELD_BACK, True)
    assert only_result(apply_plan(plan)).outcome is Outcome.DONE


# Time limits


def test_build_waits_without_a_lock_timeout(database: IndexDatabase) -> None:
    """A lock timeout would leave an invalid index behind."""
    plan = plan_after(database, BROKEN)
    timeout = 200
    changed = database.settings.database.model_copy(update={"lock_timeout_ms": timeout})
    flask_app = create_app(replace(database.settings, database=changed))
    waited = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'virtualxid'"
        " AND waitstart < clock_timestamp() - make_interval(secs => %(seconds)s)"
    )
    with ThreadPoolExecutor(1) as threads:
        with open_transaction(database, WRITER):
            applied = threads.submit(apply_plan_in_app, flask_app, plan)
            wait_until(lambda: applied.done() or database.value(waited, seconds=2 * timeout / 1000) == 1)
            assert not applied.done()
        assert only_result(applied.result(SECONDS)).outcome is Outcome.DONE
    with flask_app.app_context():
        db.engine.dispose()
    assert database.run(INVALID) == []


def test_other_statement_has_a_short_lock_timeout(
    database: IndexDatabase, index_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement_run, "LOCK_SECONDS", 0.1)
    plan = plan_after(database, *FAULTS["renamed"])
    with open_transaction(database, "COMMENT ON INDEX elsewhere IS 'held'"):
        result = only_result(apply_plan(plan))
    assert (result.outcome, "lock timeout" in str(result.reason)) == (Outcome.FAILED, True)
    assert (result.cleaned, result.left_behind) == ((), ())
    assert only_result(apply_plan(plan)).outcome is Outcome.DONE


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Shorten the limits. Returns the options of a run with one second for its step."""
    monkeypatch.setattr(apply_module, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(apply_module, "CLEANUP_SECONDS", 1.0)
    return {"max_minutes": 1 / 60}


def test_timed_out_rebuild_drops_only_its_own_copy(
    database: IndexDatabase, index_app: Flask, short_limits: dict[str, Any]
) -> None:
    database.run("CREATE TABLE theirs (a int)")
    with (
        open_transaction(database, "LOCK TABLE theirs IN ROW EXCLUSIVE MODE"),
        running_statement(database, "CREATE INDEX CONCURRENTLY theirs_ccnew ON theirs (a)", BUILDING) as work,
    ):
        database.run("SELECT pg_terminate_backend(%(pid)s)", pid=work.pid)
        work.end()
    plan = plan_after(database, BROKEN)
    # A snapshot of another table, which only a concurrent build waits for.
    with open_transaction(database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM theirs"):
        result = only_result(apply_plan(plan, **short_limits))
    assert (result.outcome, "statement timeout" in str(result.reason)) == (Outcome.FAILED, True)
    assert result.left_behind == ()
    assert database.run(INVALID) == [(OURS,), ("theirs_ccnew",)]
    assert only_result(apply_plan(plan)).outcome is Outcome.DONE
    assert database.run(INVALID) == [("theirs_ccnew",)]


def test_copy_that_cannot_be_dropped_is_reported_and_planned_next(
    database: IndexDatabase, index_app: Flask, short_limits: dict[str, Any]
) -> None:
    plan = plan_after(database, BROKEN)
    with open_transaction(database, WRITER):
        result = only_result(apply_plan(plan, **short_limits))
    assert result.outcome is Outcome.FAILED
    assert result.left_behind == (f"public.{OURS}_ccnew",)
    after = apply_plan(make_plan(database.context))
    assert {step.outcome for step in after.steps} == {Outcome.DONE}
    assert database.run(INVALID) == []
    assert make_plan(database.context).steps == ()


def test_killed_session_fails_the_step_and_stops_the_plan(database: IndexDatabase, index_app: Flask) -> None:
    plan = plan_after(database, f"DROP INDEX {OURS}", "CREATE INDEX twice ON turns (user_id, attempt)",
                    "CREATE INDEX thrice ON turns (user_id, attempt)")  # fmt: skip
    building = (
        "SELECT pid FROM pg_stat_progress_create_index"
        " WHERE phase LIKE 'waiting for %' AND datname = current_database()"  # of this database only
    )
    with ThreadPoolExecutor(1) as threads, open_transaction(database, WRITER):
        applied = threads.submit(apply_plan_in_app, index_app, plan)
        wait_until(lambda: applied.done() or bool(database.run(building)))
        ((pid,),) = database.run(building)
        database.run("SELECT pg_terminate_backend(%(pid)s)", pid=pid)
        first, second = applied.result(SECONDS).steps
    assert (first.outcome, second.outcome) == (Outcome.FAILED, Outcome.HELD_BACK)
    assert second.reason == "the session was lost"
    assert first.left_behind
    assert database.run(INVALID) == [(OURS,)]
    assert {step.outcome for step in apply_plan(make_plan(database.context)).steps} == {Outcome.DONE}
    assert (database.run(INVALID), make_plan(database.context).steps) == ([], ())


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
def test_interrupted_replacement_is_continued_from_any_state(
    database: IndexDatabase, index_app: Flask, state: list[str]
) -> None:
    database.run(f"DROP INDEX {OURS}", *state)
    for _ in range(2):
        assert {step.outcome for step in apply_plan(make_plan(database.context)).steps} <= {
            Outcome.DONE,
            Outcome.NOT_NEEDED,
        }
    assert make_plan(database.context).steps == ()
    left = database.run("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'turns'::regclass")
    assert (OURS,) in left
    assert (f"{OURS}_parley",) not in left
    assert database.run(INVALID) == []
