"""Acknowledged findings: visible, without effect on levels and exit codes, until their end date."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.checks.run import CheckResult
from ops.doctor import scheduled
from ops.doctor.registry import CHECKS
from ops.levels import Level
from tests.ops.doctor.conftest import DoctorInstall

CHECK, TABLE = "storage.durable", "public.turn_events"
TODAY = datetime.now(UTC).date()
WEEK = str(TODAY + timedelta(days=7))


@pytest.fixture
def unlogged(install: DoctorInstall) -> DoctorInstall:
    """Return an installation with an unlogged table, and a second finding of the same check."""
    database = install.url.rpartition("/")[2]
    install.run("ALTER TABLE turn_events SET UNLOGGED", f'ALTER DATABASE "{database}" SET synchronous_commit = off')
    return install


def acknowledge(install: DoctorInstall, *arguments: str, check: str = CHECK, until: str = WEEK) -> Any:
    return install.call("doctor", "acknowledge", check, *arguments, "--until", until)


def accept_all(install: DoctorInstall, until: str = WEEK) -> None:
    for finding in install.run_check(CHECK).findings:
        result = acknowledge(install, "--object", finding.object, "--reason", "a test server", until=until)
        assert result.exit_code == 0, result.output


def table_finding(result: CheckResult) -> Any:
    (finding,) = [finding for finding in result.findings if finding.object == TABLE]
    return finding


def test_acknowledged_finding_stays_visible_and_raises_no_level(unlogged: DoctorInstall) -> None:
    before = unlogged.run_check(CHECK)
    assert before.level is Level.CRITICAL
    accept_all(unlogged)
    after = unlogged.run_check(CHECK)
    assert after.level is Level.OK
    assert [finding.message for finding in after.findings] == [finding.message for finding in before.findings]
    called = unlogged.call("doctor", "--only", CHECK)
    assert called.exit_code == 0
    assert TABLE in called.stdout
    assert f"acknowledged until {WEEK} by " in called.stdout
    document = json.loads(unlogged.call("doctor", "--only", CHECK, "--json").stdout)
    assert {finding["acknowledgement"]["until"] for finding in document["report"]["results"][0]["findings"]} == {WEEK}


def test_other_findings_of_the_check_still_count(unlogged: DoctorInstall) -> None:
    acknowledge(unlogged, "--object", TABLE, "--reason", "rebuilt on Friday")
    result = unlogged.run_check(CHECK)
    assert result.level is Level.CRITICAL
    assert table_finding(result).is_acknowledged


def test_finding_counts_again_after_the_last_day(unlogged: DoctorInstall) -> None:
    accept_all(unlogged, until=str(TODAY))
    assert unlogged.run_check(CHECK).level is Level.OK
    unlogged.run("UPDATE check_acknowledgements SET ends_on = ends_on - 1")
    assert unlogged.run_check(CHECK).level is Level.CRITICAL
    called = unlogged.call("doctor", "--only", CHECK)
    assert called.exit_code == 2
    assert f"ended on {TODAY - timedelta(days=1)}" in called.stdout


def test_worse_level_is_not_covered(unlogged: DoctorInstall) -> None:
    accept_all(unlogged)
    unlogged.run("UPDATE check_acknowledgements SET level = 'warning'")
    assert unlogged.run_check(CHECK).level is Level.CRITICAL


def test_withdrawn_acknowledgement_has_no_effect(unlogged: DoctorInstall) -> None:
    accept_all(unlogged)
    listed = json.loads(unlogged.call("doctor", "acknowledgements", "--json").stdout)["report"]
    (own,) = [item for item in listed if item["object"] == TABLE]
    assert unlogged.call("doctor", "withdraw", own["id"]).exit_code == 0
    assert unlogged.run_check(CHECK).level is Level.CRITICAL
    assert unlogged.call("doctor", "withdraw", own["id"]).exit_code == 64


def test_scheduled_run_stores_acknowledged_findings_without_raising_its_level(unlogged: DoctorInstall) -> None:
    accept_all(unlogged)
    with unlogged.flask_app.app_context():
        summary = scheduled.run_and_record("checks", [check for check in CHECKS if check.id == CHECK])
    assert (summary.level, summary.ok) == (Level.OK, 1)
    assert table_finding(summary.results[0]).acknowledgement.reason == "a test server"


def test_repeating_replaces_reason_and_end(unlogged: DoctorInstall) -> None:
    acknowledge(unlogged, "--object", TABLE, "--reason", "the first reason")
    acknowledge(unlogged, "--object", TABLE, "--reason", "the second reason", until=str(TODAY))
    assert unlogged.run("SELECT reason, ends_on FROM check_acknowledgements") == [("the second reason", TODAY)]


def test_acknowledging_is_audited(unlogged: DoctorInstall) -> None:
    acknowledge(unlogged, "--object", TABLE, "--reason", "rebuilt on Friday")
    acknowledge(unlogged, "--object", "nothing", "--reason", "a wrong object")
    rows = unlogged.run("SELECT action, target, result, details ->> 'reason' FROM audit_events ORDER BY id")
    assert rows == [
        ("finding.acknowledge", CHECK, "done", "rebuilt on Friday"),
        ("finding.acknowledge", CHECK, "refused", "a wrong object"),
    ]


@pytest.mark.parametrize(
    ("check", "named", "reason", "until", "error"),
    [
        ("storage.nothing", TABLE, "why it is fine", WEEK, "There is no check"),
        (CHECK, TABLE, "why it is fine", str(TODAY - timedelta(days=1)), "today or later"),
        (CHECK, TABLE, "why it is fine", str(TODAY + timedelta(days=4000)), "today or later"),
        (CHECK, TABLE, "why it is fine", "soon", "does not match the format"),
        (CHECK, TABLE, "why it is fine", "2026-02-30", "does not match the format"),
        (CHECK, TABLE, "too short", WEEK, "a reason of 10 to 1000 characters"),
        (CHECK, TABLE, " ", WEEK, "a reason of 10 to 1000 characters"),
        (CHECK, TABLE, "x" * 1001, WEEK, "a reason of 10 to 1000 characters"),
        (CHECK, "public.theirs", "why it is fine", WEEK, "reports no finding on 'public.theirs'"),
        (CHECK, None, "why it is fine", WEEK, "name the object of one of them"),
        ("connection.version", None, "why it is fine", WEEK, "nothing to acknowledge"),
    ],
)
def test_invalid_acknowledgement_is_refused(
    unlogged: DoctorInstall, check: str, named: str | None, reason: str, until: str, error: str
) -> None:
    named_options = ("--object", named) if named is not None else ()
    result = acknowledge(unlogged, *named_options, "--reason", reason, check=check, until=until)
    assert (result.exit_code, error in result.stderr) == (64, True), result.stderr
    assert unlogged.run("SELECT 1 FROM check_acknowledgements") == []


def test_doctor_works_before_the_migration(unlogged: DoctorInstall) -> None:
    unlogged.run("DROP TABLE check_acknowledgements")
    assert unlogged.run_check(CHECK).level is Level.CRITICAL
