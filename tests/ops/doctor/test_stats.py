"""Disks, growth and slow statements: recorded statistics, and windows between two records."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from ops.catalogue.declarations import load
from ops.catalogue.jobs import RECORD_STATS
from ops.doctor.checks import statements, storage
from ops.levels import Level
from tests.ops.conftest import PROJECT
from tests.ops.doctor.conftest import DoctorInstall, as_role
from tests.ops.doctor.rows import add_run

DAY = timedelta(days=1)
SECRET = "text of a user"


def stats_report(install: DoctorInstall) -> dict[str, Any]:
    """Return the report of the job, as it would be stored."""
    install.run("ANALYZE")
    with install.flask_app.app_context():
        report = load(RECORD_STATS.function)()
    return dict(orjson.loads(orjson.dumps(report, default=str)))


def run_named_statement(install: DoctorInstall, times: int) -> None:
    """Run a named statement so many times."""
    for _ in range(times):
        install.run(f"SELECT /* test.sleeps rid=1234 */ pg_sleep(0.002), '{SECRET}'")


def slow_report(install: DoctorInstall, *arguments: str) -> dict[str, Any]:
    result = install.call("slow", "--json", *arguments)
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    report: dict[str, Any] = orjson.loads(result.stdout)["report"]
    return {**report, "statements": {statement["name"]: statement for statement in report["statements"]}}


def test_statements_are_counted_by_name(install: DoctorInstall) -> None:
    run_named_statement(install, 3)
    report = slow_report(install, "--since", "90min")
    statement = report["statements"]["test.sleeps"]
    assert statement["calls"] == 3
    assert statement["mean_ms"] >= 2
    assert statement["max_ms"] >= statement["mean_ms"]
    assert "other" not in report["statements"]
    assert "other" in slow_report(install, "--all")["statements"]


def test_window_begins_at_the_record_before_it(install: DoctorInstall) -> None:
    run_named_statement(install, 5)
    add_run(install, RECORD_STATS.name, 2 * DAY, report=stats_report(install))
    run_named_statement(install, 2)
    add_run(install, RECORD_STATS.name, timedelta(hours=1), report=stats_report(install))
    run_named_statement(install, 4)
    of_a_day = slow_report(install, "--since", "24h")
    assert of_a_day["statements"]["test.sleeps"]["calls"] == 6
    assert of_a_day["reason"] is None
    assert datetime.now(UTC) - datetime.fromisoformat(of_a_day["since"]) > DAY
    assert slow_report(install, "--since", "30min")["statements"]["test.sleeps"]["calls"] == 4
    of_a_week = slow_report(install, "--since", "1w")
    assert of_a_week["statements"]["test.sleeps"]["calls"] == 6
    assert of_a_week["reason"] == "no statistics were recorded before that"


def test_statistics_before_a_reset_are_not_subtracted(install: DoctorInstall) -> None:
    run_named_statement(install, 5)
    report = stats_report(install)
    add_run(install, RECORD_STATS.name, 2 * DAY, report={**report, "counting_since": "2026-01-01T00:00:00+00:00"})
    run_named_statement(install, 1)
    report = slow_report(install, "--since", "24h")
    assert report["reason"] == "the statistics were reset then"
    assert report["statements"]["test.sleeps"]["calls"] == 6


def test_discarded_statement_counts_from_zero(install: DoctorInstall) -> None:
    run_named_statement(install, 2)
    report = stats_report(install)
    report["statements"]["test.sleeps"] = [1_000_000, 5e6, 9.0, 7]
    add_run(install, RECORD_STATS.name, 2 * DAY, report=report)
    statement = slow_report(install, "--since", "24h")["statements"]["test.sleeps"]
    assert statement["calls"] == 2


@pytest.mark.parametrize(
    ("slow_ms", "very_slow_ms", "often", "level"),
    [(0.5, 1e6, 3, Level.WARNING), (0.5, 1.0, 3, Level.CRITICAL), (0.5, 1.0, 4, Level.OK), (1e6, 1e6, 3, Level.OK)],
)
def test_slow_statement_is_reported_by_name(
    install: DoctorInstall,
    monkeypatch: pytest.MonkeyPatch,
    slow_ms: float,
    very_slow_ms: float,
    often: int,
    level: Level,
) -> None:
    for name, value in {"SLOW_MS": slow_ms, "VERY_SLOW_MS": very_slow_ms, "MIN_CALLS": often}.items():
        monkeypatch.setattr(statements, name, value)
    run_named_statement(install, 3)
    result = install.run_check("statements.slow")
    assert result.level is level
    assert [finding.message.split()[0] for finding in result.findings] == ([] if level is Level.OK else ["test.sleeps"])
    assert SECRET not in repr(result)


def test_each_prefix_of_maintenance_names_statements() -> None:
    """A renamed group of statements must not lose its higher limit unnoticed."""
    source = "\n".join(path.read_text() for package in ("app", "ops") for path in (PROJECT / package).rglob("*.py"))
    for prefix in statements.MAINTENANCE:
        assert re.search(rf'Statement\(\s*"{re.escape(prefix)}', source), f"no statement has the prefix {prefix}"


def test_missing_extension_is_unknown_and_other_statistics_are_recorded(install: DoctorInstall) -> None:
    install.run("DROP EXTENSION pg_stat_statements")
    result = install.run_check("statements.slow")
    assert result.level is Level.UNKNOWN
    assert "CREATE EXTENSION pg_stat_statements" in str(result.remedy)
    called = install.call("slow")
    assert called.exit_code == 3
    assert "not installed" in called.stderr
    report = stats_report(install)
    assert report["statements"] is None
    assert "not installed" in report["unavailable"]
    assert report["tables"]["users"][0] == 0


def test_hidden_statements_have_no_name(
    make_install: Callable[..., DoctorInstall], install: DoctorInstall, role: str
) -> None:
    run_named_statement(install, 1)
    weak = make_install(database={"url": as_role(install.url, role)})
    install.run(f'GRANT SELECT ON job_runs TO "{role}"')
    report = slow_report(weak, "--all")
    assert "test.sleeps" not in report["statements"]
    assert report["statements"]["hidden"]["calls"] > 0


def grow(install: DoctorInstall, ago: timedelta) -> None:
    """Record the present size as that of `ago`, and add a table."""
    add_run(install, RECORD_STATS.name, ago, report=stats_report(install))
    install.run(
        "CREATE TABLE heap AS SELECT repeat('x', 500) AS filling FROM generate_series(1, 20000)", "ANALYZE heap"
    )


def test_growth_needs_a_record_of_another_day(install: DoctorInstall) -> None:
    assert install.call("growth").exit_code == 3
    add_run(install, RECORD_STATS.name, timedelta(hours=20), report=stats_report(install))
    result = install.call("growth")
    assert result.exit_code == 3
    assert "The first were recorded at" in result.stderr


def test_growth_is_reported_per_table(install: DoctorInstall) -> None:
    grow(install, 10 * DAY)
    result = install.call("growth", "--weeks", "1", "--json")
    assert result.exit_code == 0, result.output
    report = orjson.loads(result.stdout)["report"]
    assert report["days"] == pytest.approx(10, abs=0.1)
    first = report["tables"][0]
    assert first["table"] == "heap"
    assert first["grown_bytes"] > 10_000_000
    assert first["grown_rows"] == 20_000
    assert report["bytes_per_day"] == pytest.approx(report["grown_bytes"] / 10, rel=0.02)
    shown = install.call("growth")
    assert "no statistics were recorded before that" in shown.stdout
    assert "heap" in shown.stdout


def test_small_database_is_ignored(install: DoctorInstall) -> None:
    assert install.run_check("storage.growth").level is Level.OK


def test_fast_growth_and_a_full_disk_are_found(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SMALL", 0)
    assert install.run_check("storage.growth").level is Level.UNKNOWN
    grow(install, 2 * DAY)
    (finding,) = install.run_check("storage.growth").findings
    assert finding.level is Level.WARNING
    assert "heap" in finding.message
    monkeypatch.setattr(storage, "SOON", timedelta(days=40_000))
    levels = [finding.level for finding in install.run_check("storage.growth").findings]
    assert levels == [Level.WARNING, Level.WARNING]
    monkeypatch.setattr(storage, "VERY_SOON", timedelta(days=40_000))
    assert install.run_check("storage.growth").level is Level.CRITICAL


def test_nearly_full_disks_are_found(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "ENOUGH_BYTES", float("inf"))
    monkeypatch.setattr(storage, "LOW_BYTES", float("inf"))
    monkeypatch.setattr(storage, "VERY_LOW", 0.0)
    monkeypatch.setattr(storage, "VERY_LOW_BYTES", 0)
    result = install.run_check("storage.disk")
    assert {finding.level for finding in result.findings} == {Level.WARNING}
    assert result.findings[0].message.startswith("PARLEY_HOME has")
    if result.reason is None:  # the system user of the tests may be unable to read the folder
        assert result.findings[1].message.startswith("The database has")
    monkeypatch.setattr(storage, "VERY_LOW", 1.1)
    assert install.run_check("storage.disk").level is Level.CRITICAL


def test_remote_disk_is_unknown(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "ENOUGH_BYTES", 0)  # any free space of this machine is enough
    monkeypatch.setattr(storage, "peer_address", lambda _: "10.1.2.3")
    result = install.run_check("storage.disk")
    assert result.level is Level.UNKNOWN
    assert "another host" in str(result.reason)


def test_folder_of_another_server_is_unknown(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "ENOUGH_BYTES", 0)
    monkeypatch.setattr(storage, "STARTED_WITHIN", -1)
    result = install.run_check("storage.disk")
    assert result.level is Level.UNKNOWN


def test_disk_of_the_backups_is_checked(
    make_install: Callable[..., DoctorInstall], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = make_install(backups={"url": (tmp_path / "backups").as_uri()})
    monkeypatch.setattr(storage, "ENOUGH_BYTES", float("inf"))
    monkeypatch.setattr(storage, "LOW", 1.1)
    findings = {finding.object: finding for finding in install.run_check("storage.disk").findings}
    assert "BACKUP_URL has" in findings["BACKUP_URL"].message
    assert Path(findings["BACKUP_URL"].evidence["folder"]) in (tmp_path / "backups").parents
