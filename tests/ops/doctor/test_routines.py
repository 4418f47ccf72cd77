"""Routines: their parts, reports and history."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from app.ids import new_id
from ops.catalogue.declarations import load
from ops.catalogue.jobs import JOBS, RECORD_STATS
from ops.checks.context import CheckContext
from ops.doctor.registry import CHECKS
from ops.errors import UnknownState
from ops.levels import Level
from ops.routines import errors
from ops.routines.registry import ROUTINES, Part, Routine
from ops.routines.run import run_routine
from ops.routines.sections import RoutineReport, Section
from tests.metrics.scrape import here
from tests.ops.doctor.conftest import DoctorInstall
from tests.ops.doctor.rows import add_run

per_routine = pytest.mark.parametrize("routine", ROUTINES, ids=lambda routine: routine.name)


def run_in_app(install: DoctorInstall, routine: Routine) -> RoutineReport:
    with install.flask_app.app_context():
        return run_routine(routine)


def test_routines_have_the_required_parts() -> None:
    """The parts are those of the requirements."""
    assert {routine.name: [part.name for part in routine.parts] for routine in ROUTINES} == {
        "daily": ["query performance", "errors", "backup completed"],
        "weekly": ["slow queries", "table growth", "index usage", "restore drill"],
        "monthly": ["archival", "index optimisation", "table growth", "documents"],
    }
    assert {routine.job.name for routine in ROUTINES} <= {job.name for job in JOBS}
    assert {str(routine.job.schedule) for routine in ROUTINES} == {
        "05:30 UTC", "Mondays, 05:40 UTC", "day 1 of the month, 05:50 UTC",
    }  # fmt: skip


@per_routine
def test_each_part_has_checks_or_a_function(routine: Routine) -> None:
    for part in routine.parts:
        assert part.checks or part.function
        if part.function:
            assert part.function.__doc__


@per_routine
def test_new_installation_runs_every_part(install: DoctorInstall, routine: Routine) -> None:
    report = run_in_app(install, routine)
    assert [part.part for part in report.parts] == [part.name for part in routine.parts]
    assert all(part.summary for part in report.parts)
    assert [part.summary for part in report.parts if "It failed" in part.summary] == []


@per_routine
def test_beat_and_command_record_the_same_report(install: DoctorInstall, routine: Routine) -> None:
    add_run(install, RECORD_STATS.name, timedelta(days=9), report=_recorded_stats(install))
    result = install.call("routine", routine.name, "--json")
    document = orjson.loads(result.stdout)
    assert result.exit_code == Level(document["level"]).exit_code
    assert document["report"]["routine"] == routine.name
    with install.flask_app.app_context():
        by_beat = load(routine.job.function)()
    assert [part.part for part in by_beat.parts] == [part["part"] for part in document["report"]["parts"]]
    (kept,) = orjson.loads(install.call("jobs", "history", "--job", routine.job.name, "--json").stdout)["report"]
    assert kept["report"] == document["report"]
    shown = install.call("jobs", "history").stdout
    for part in routine.parts:
        assert f"{part.name} " in shown
    whole = install.call("jobs", "show", kept["id"])
    assert whole.exit_code == 0
    for part in document["report"]["parts"]:
        assert part["summary"][:60] in whole.stdout


def _recorded_stats(install: DoctorInstall) -> dict[str, Any]:
    with install.flask_app.app_context():
        return dict(orjson.loads(orjson.dumps(load(RECORD_STATS.function)(), default=str)))


def good_part(context: CheckContext) -> Section:
    """Return a section, as a part does."""
    return Section(summary="all is well", data={"number": 1}, rows=({"a": 1, "b": "x" * 100},))


def defective_part(context: CheckContext) -> Section:
    """Raise an unexpected error, as a defective part does."""
    raise ZeroDivisionError("token=sk-live-0123456789abcdef0123456789")


def unknown_part(context: CheckContext) -> Section:
    """Raise UnknownState, as a part without data does."""
    raise UnknownState("There is nothing to go by.", remedy="wait a day")


def refused_part(context: CheckContext) -> Section:
    """Run a statement that PostgreSQL refuses."""
    context.connection.exec_driver_sql("SELECT no_such_column FROM users")
    return Section(summary="never said")


def test_failed_part_does_not_stop_the_others(install: DoctorInstall) -> None:
    names = ("good_part", "defective_part", "unknown_part", "refused_part", "good_part")
    routine = Routine(
        name="test",
        description="Tests.",
        job=RECORD_STATS,
        parts=tuple(Part(name=f"{n} {name}", function=globals()[name]) for n, name in enumerate(names)),
    )
    report = run_in_app(install, routine)
    assert [part.level for part in report.parts] == [
        Level.OK, Level.UNKNOWN, Level.UNKNOWN, Level.UNKNOWN, Level.OK,
    ]  # fmt: skip
    assert report.level is Level.UNKNOWN
    assert "ZeroDivisionError" in report.parts[1].summary
    assert "sk-live" not in report.parts[1].summary
    assert report.parts[2].data == {"remedy": "wait a day"}
    assert "no_such_column" in report.parts[3].summary


def test_part_has_the_level_of_its_checks(install: DoctorInstall) -> None:
    part = Part(name="both", checks=("beat.alive", "connection.version"), function=good_part)
    (report,) = run_in_app(install, Routine(name="test", description="Tests.", job=RECORD_STATS, parts=(part,))).parts
    assert report.level is Level.CRITICAL
    assert report.summary == "all is well; 1 of 2 checks are ok"
    assert (report.checked, [result.check for result in report.results]) == (2, ["beat.alive"])


def add_turns(install: DoctorInstall, status: str, code: str | None, ago: timedelta, times: int = 1) -> None:
    """Insert turns that ended `ago` with that status and error code."""
    for _ in range(times):
        who, which = str(new_id()), str(new_id())
        install.run(
            "INSERT INTO users (id, email, name, password_hash) VALUES (%(who)s, %(who)s || '@x.y', 'a', 'x')", who=who
        )
        install.run(
            "INSERT INTO conversations (user_id, id, title) VALUES (%(who)s, %(which)s, 't')", who=who, which=which
        )
        install.run(
            "INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, provider, error, started_at, "
            "finished_at, heartbeat_at) VALUES (%(who)s, %(turn)s, %(which)s, %(turn)s, %(status)s, 1, 'demo', "
            "%(error)s::jsonb, now() - %(ago)s, now() - %(ago)s, now() - %(ago)s)",
            who=who,
            which=which,
            turn=str(new_id()),
            status=status,
            ago=ago,
            error=orjson.dumps({"code": code, "detail": "text of a user"}).decode() if code else None,
        )


def test_errors_of_a_day_are_counted_by_code(install: DoctorInstall) -> None:
    hour = timedelta(hours=1)
    add_turns(install, "completed", None, hour, times=3)
    add_turns(install, "failed", "provider_unreachable", hour, times=2)
    add_turns(install, "interrupted", None, hour)
    add_turns(install, "failed", "provider_timed_out", timedelta(days=2))
    add_run(install, "search.sweep", hour, "failed", reason="no room")
    (part,) = run_in_app(
        install, Routine(name="t", description="T.", job=RECORD_STATS, parts=(ROUTINES[0].parts[1],))
    ).parts
    assert part.level is Level.WARNING
    assert part.summary.startswith("3 of 6 turns failed or were interrupted (50.00%), 1 job runs failed")
    assert {(row["name"], row["status"]): row["count"] for row in part.rows} == {
        ("provider_unreachable", "failed"): 2,
        ("demo", "interrupted"): 1,
        ("search.sweep", "failed"): 1,
    }
    assert "text of a user" not in repr(part)


def test_errors_of_a_day_use_the_index(install: DoctorInstall) -> None:
    install.run(
        "INSERT INTO users (id, email, name, password_hash) VALUES (gen_random_uuid(), 'a@b.c', 'A', 'x')",
        "INSERT INTO conversations (user_id, id) SELECT id, gen_random_uuid() FROM users",
        "INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, provider, started_at,"
        " heartbeat_at, finished_at) SELECT c.user_id, gen_random_uuid(), c.id, gen_random_uuid(), 'completed', n,"
        " 'demo', at, at, at FROM conversations c, generate_series(1, 50000) AS n,"
        " LATERAL (SELECT now() - make_interval(mins => 50000 - n)) AS t(at)",
        "VACUUM ANALYZE turns",
    )
    plan = install.run(f"EXPLAIN {errors.TURNS.sql}", seconds=86_400)
    assert any("ix_turns_started_at" in line for (line,) in plan)


# Without its checks, because they depend on the disk of this machine.
GROWTH = Routine(name="t", description="T.", job=RECORD_STATS, parts=(replace(ROUTINES[1].parts[1], checks=()),))


def test_growth_of_a_week_is_reported(install: DoctorInstall) -> None:
    (part,) = run_in_app(install, GROWTH).parts
    assert part.level is Level.UNKNOWN
    add_run(install, RECORD_STATS.name, timedelta(days=8), report=_recorded_stats(install))
    install.run("CREATE TABLE heap AS SELECT repeat('x', 500) FROM generate_series(1, 5000)")
    (part,) = run_in_app(install, GROWTH).parts
    assert "most of it heap" in part.summary
    assert datetime.fromisoformat(str(part.data["since"]))
    assert "because" not in part.summary


def test_shorter_growth_period_is_explained(install: DoctorInstall) -> None:
    add_run(install, RECORD_STATS.name, timedelta(days=2), report=_recorded_stats(install))
    (part,) = run_in_app(install, GROWTH).parts
    assert "2.0 of 7 days, because no statistics were recorded before that" in part.summary


@pytest.mark.parametrize(
    "report",
    [
        None,
        {},
        {"closed": 0, "waiting": {"interactive": 1, "maintenance": 0}},
        {
            "text": "a [bold]word[/bold] and \u001b[31m",
            "nothing": None,
            "many": [1],
            "things": [],
            "inner": {"a": {"b": 1}},
        },
        {"things": [{"a": 1}, {"a": 2}]},
        {"level": "warning", "checked": 3, "ok": 2, "results": []},
    ],
)
def test_any_recorded_report_is_printed(install: DoctorInstall, report: dict[str, Any] | None) -> None:
    add_run(install, "search.sweep", timedelta(hours=1), report=report)
    (kept,) = orjson.loads(install.call("jobs", "history", "--json").stdout)["report"]
    assert kept["report"] == report
    assert install.call("jobs", "history").exit_code == 0
    shown = install.call("jobs", "show", kept["id"])
    assert shown.exit_code == 0, shown.output
    if report and "text" in report:
        assert "[bold]word[/bold] and \\x1b[31m" in shown.stdout


def test_scheduled_doctor_keeps_results_that_are_not_ok(install: DoctorInstall) -> None:
    result = install.call("jobs", "run", "doctor.run", "--json")
    assert result.exit_code == 0
    report = orjson.loads(result.stdout)["report"]["report"]
    assert report["level"] == "critical"  # no beat has run here
    assert report["checked"] == len([check for check in CHECKS if not check.thorough])
    assert report["ok"] + len(report["results"]) == report["checked"]
    assert "beat.alive" in {result["check"] for result in report["results"]}
    assert "ok" not in {result["level"] for result in report["results"]}


def test_thorough_checks_keep_their_own_metrics(install: DoctorInstall) -> None:
    for job in ("doctor.run_thorough", "doctor.run"):
        assert install.call("jobs", "run", job).exit_code == 0
    seen = here()
    assert seen.labels("check_state", "check") == {check.id for check in CHECKS}
    assert seen.value("check_state", check="beat.alive", state="critical") == 1
    assert seen.value("check_state", check="connection.version", state="ok") == 1
