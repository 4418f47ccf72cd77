"""The duties of day, week and month: every part is told, whatever becomes of the others, and the report is kept."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from app.models.columns import new_id
from ops.catalogue import CHECKS, DUTIES, JOBS, RECORD_FIGURES
from ops.checks.probe import Probe
from ops.declarations import Duty, Part, load
from ops.duties import errors, parts, run
from ops.duties.parts import Told
from ops.findings import CannotJudge
from ops.levels import Level
from tests.metrics.scrape import here
from tests.ops.doctor.conftest import Ward
from tests.ops.doctor.rows import ran

per_duty = pytest.mark.parametrize("duty", DUTIES, ids=lambda duty: duty.name)


def done(ward: Ward, duty: Duty) -> parts.DutyReport:
    with ward.flask_app.app_context():
        return run.do(duty)


def test_there_are_those_that_were_asked_for() -> None:
    """With the parts that people expect of each, and a job of the catalogue that does it."""
    assert {duty.name: [part.name for part in duty.parts] for duty in DUTIES} == {
        "daily": ["query performance", "errors", "backup completed"],
        "weekly": ["slow queries", "table growth", "index usage", "restore drill"],
        "monthly": ["archival", "index optimisation", "table growth", "documents"],
    }
    assert {duty.job.name for duty in DUTIES} <= {job.name for job in JOBS}
    assert {str(duty.job.schedule) for duty in DUTIES} == {
        "05:30 UTC", "Mondays, 05:40 UTC", "day 1 of the month, 05:50 UTC",
    }  # fmt: skip


@per_duty
def test_what_a_duty_names_is_there(duty: Duty) -> None:
    known = {check.id for check in CHECKS} | {check.group for check in CHECKS}
    for part in duty.parts:
        assert part.checks or part.where
        assert set(part.checks) <= known
        if part.where:
            assert load(part.where).__doc__


@per_duty
def test_every_part_answers_on_an_installation_that_is_new(ward: Ward, duty: Duty) -> None:
    report = done(ward, duty)
    assert [part.part for part in report.parts] == [part.name for part in duty.parts]
    assert all(part.says for part in report.parts)
    assert [part.says for part in report.parts if "It failed" in part.says] == []


@per_duty
def test_the_beat_and_the_command_do_the_same_and_both_are_in_the_history(ward: Ward, duty: Duty) -> None:
    ran(ward, RECORD_FIGURES.name, timedelta(days=9), report=_figures(ward))
    result = ward.call("routine", duty.name, "--json")
    document = orjson.loads(result.stdout)
    assert result.exit_code == Level(document["level"]).exit_code
    assert document["report"]["duty"] == duty.name
    with ward.flask_app.app_context():
        by_the_beat = load(duty.job.where)()
    assert [part.part for part in by_the_beat.parts] == [part["part"] for part in document["report"]["parts"]]
    (kept,) = orjson.loads(ward.call("jobs", "history", "--job", duty.job.name, "--json").stdout)["report"]
    assert kept["report"] == document["report"]
    shown = ward.call("jobs", "history").stdout
    for part in duty.parts:
        assert f"{part.name} " in shown
    whole = ward.call("jobs", "show", kept["id"])
    assert whole.exit_code == 0
    for part in document["report"]["parts"]:
        assert part["says"][:60] in whole.stdout


def _figures(ward: Ward) -> dict[str, Any]:
    with ward.flask_app.app_context():
        return dict(orjson.loads(orjson.dumps(load(RECORD_FIGURES.where)(), default=str)))


def tells(probe: Probe) -> Told:
    """A part that knows something."""
    return Told(says="all is well", figures={"number": 1}, rows=({"a": 1, "b": "x" * 100},))


def fails(probe: Probe) -> Told:
    """A part that has a fault."""
    raise ZeroDivisionError("token=sk-live-0123456789abcdef0123456789")


def cannot(probe: Probe) -> Told:
    """A part that does not know."""
    raise CannotJudge("There is nothing to go by.", remedy="wait a day")


def asks_too_much(probe: Probe) -> Told:
    """A part that PostgreSQL refuses."""
    probe.connection.exec_driver_sql("SELECT no_such_column FROM users")
    return Told(says="never said")


def test_a_part_that_fails_keeps_none_of_the_others_from_being_told(ward: Ward) -> None:
    names = ("tells", "fails", "cannot", "asks_too_much", "tells")
    duty = Duty(
        name="test",
        does="Tests.",
        job=RECORD_FIGURES,
        parts=tuple(Part(name=f"{n} {name}", where=f"{__name__}:{name}") for n, name in enumerate(names)),
    )
    report = done(ward, duty)
    assert [part.level for part in report.parts] == [
        Level.OK, Level.UNKNOWN, Level.UNKNOWN, Level.UNKNOWN, Level.OK,
    ]  # fmt: skip
    assert report.level is Level.UNKNOWN
    assert "ZeroDivisionError" in report.parts[1].says
    assert "sk-live" not in report.parts[1].says
    assert report.parts[2].figures == {"remedy": "wait a day"}
    assert "no_such_column" in report.parts[3].says


def test_a_part_is_as_bad_as_its_checks(ward: Ward) -> None:
    part = Part(name="both", checks=("beat.alive", "connection.version"), where=f"{__name__}:tells")
    (told,) = done(ward, Duty(name="test", does="Tests.", job=RECORD_FIGURES, parts=(part,))).parts
    assert told.level is Level.CRITICAL
    assert told.says == "all is well; 1 of 2 checks are ok"
    assert (told.asked, [answer.check for answer in told.answers]) == (2, ["beat.alive"])


def turned(ward: Ward, status: str, code: str | None, ago: timedelta, times: int = 1) -> None:
    """Turns that ended like that, so long ago."""
    for _ in range(times):
        who, which = str(new_id()), str(new_id())
        ward.run(
            "INSERT INTO users (id, email, name, password_hash) VALUES (%(who)s, %(who)s || '@x.y', 'a', 'x')", who=who
        )
        ward.run(
            "INSERT INTO conversations (user_id, id, title) VALUES (%(who)s, %(which)s, 't')", who=who, which=which
        )
        ward.run(
            "INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, provider, error, started_at, "
            "finished_at, heartbeat_at) VALUES (%(who)s, %(turn)s, %(which)s, %(turn)s, %(status)s, 1, 'demo', "
            "%(error)s::jsonb, now() - %(ago)s, now() - %(ago)s, now() - %(ago)s)",
            who=who,
            which=which,
            turn=str(new_id()),
            status=status,
            ago=ago,
            error=orjson.dumps({"code": code, "detail": "what somebody wrote"}).decode() if code else None,
        )


def test_errors_of_a_day_are_counted_by_their_codes(ward: Ward) -> None:
    hour = timedelta(hours=1)
    turned(ward, "completed", None, hour, times=3)
    turned(ward, "failed", "provider_unreachable", hour, times=2)
    turned(ward, "interrupted", None, hour)
    turned(ward, "failed", "provider_timed_out", timedelta(days=2))
    ran(ward, "search.sweep", hour, "failed", reason="no room")
    (part,) = done(ward, Duty(name="t", does="T.", job=RECORD_FIGURES, parts=(DUTIES[0].parts[1],))).parts
    assert part.level is Level.WARNING
    assert part.says.startswith("3 of 6 turns did not end well (50.00%), 1 runs of jobs failed")
    assert {(row["name"], row["ended"]): row["times"] for row in part.rows} == {
        ("provider_unreachable", "failed"): 2,
        ("demo", "interrupted"): 1,
        ("search.sweep", "failed"): 1,
    }
    assert "what somebody wrote" not in repr(part)


def test_errors_of_a_day_are_found_without_reading_all_turns(ward: Ward) -> None:
    ward.run(
        "INSERT INTO users (id, email, name, password_hash) VALUES (gen_random_uuid(), 'a@b.c', 'A', 'x')",
        "INSERT INTO conversations (user_id, id) SELECT id, gen_random_uuid() FROM users",
        "INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, provider, started_at,"
        " heartbeat_at, finished_at) SELECT c.user_id, gen_random_uuid(), c.id, gen_random_uuid(), 'completed', n,"
        " 'demo', at, at, at FROM conversations c, generate_series(1, 50000) AS n,"
        " LATERAL (SELECT now() - make_interval(mins => 50000 - n)) AS t(at)",
        "VACUUM ANALYZE turns",
    )
    plan = ward.run(f"EXPLAIN {errors.TURNS.sql}", seconds=86_400)
    assert any("ix_turns_started_at" in line for (line,) in plan)


# Without the checks that go with it: how full the disk of this machine is says nothing of the duty.
GROWTH = Duty(name="t", does="T.", job=RECORD_FIGURES, parts=(replace(DUTIES[1].parts[1], checks=()),))


def test_growth_of_a_week_is_told(ward: Ward) -> None:
    (part,) = done(ward, GROWTH).parts
    assert part.level is Level.UNKNOWN
    ran(ward, RECORD_FIGURES.name, timedelta(days=8), report=_figures(ward))
    ward.run("CREATE TABLE heap AS SELECT repeat('x', 500) FROM generate_series(1, 5000)")
    (part,) = done(ward, GROWTH).parts
    assert "most of it heap" in part.says
    assert datetime.fromisoformat(str(part.figures["since"]))
    assert "because" not in part.says


def test_growth_of_less_than_was_asked_for_says_so(ward: Ward) -> None:
    ran(ward, RECORD_FIGURES.name, timedelta(days=2), report=_figures(ward))
    (part,) = done(ward, GROWTH).parts
    assert "2.0 of 7 days, because no figures were recorded before that" in part.says


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
        {"level": "warning", "asked": 3, "ok": 2, "answers": []},
    ],
)
def test_any_report_can_be_shown(ward: Ward, report: dict[str, Any] | None) -> None:
    ran(ward, "search.sweep", timedelta(hours=1), report=report)
    (kept,) = orjson.loads(ward.call("jobs", "history", "--json").stdout)["report"]
    assert kept["report"] == report
    assert ward.call("jobs", "history").exit_code == 0
    shown = ward.call("jobs", "show", kept["id"])
    assert shown.exit_code == 0, shown.output
    if report and "text" in report:
        assert "[bold]word[/bold] and \\x1b[31m" in shown.stdout


def test_the_routine_examination_keeps_what_was_not_ok_and_tells_the_metrics(ward: Ward) -> None:
    result = ward.call("jobs", "run", "doctor.examine", "--json")
    assert result.exit_code == 0
    report = orjson.loads(result.stdout)["report"]["report"]
    assert report["level"] == "critical"  # no beat was ever heard here
    assert report["asked"] == len([check for check in CHECKS if not check.thorough])
    assert report["ok"] + len(report["answers"]) == report["asked"]
    assert "beat.alive" in {answer["check"] for answer in report["answers"]}
    assert "ok" not in {answer["level"] for answer in report["answers"]}


def test_thorough_checks_have_a_place_of_their_own_in_the_metrics(ward: Ward) -> None:
    for job in ("doctor.examine_thoroughly", "doctor.examine"):
        assert ward.call("jobs", "run", job).exit_code == 0
    seen = here()
    assert seen.labels("check_state", "check") == {check.id for check in CHECKS}
    assert seen.value("check_state", check="beat.alive") == 2
    assert seen.value("check_state", check="connection.version") == 0
