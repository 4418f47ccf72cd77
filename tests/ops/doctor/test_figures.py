"""Disks, growth, slow statements: what is counted, what is written down of it, and windows made from the two."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from ops.catalogue import RECORD_FIGURES
from ops.checks import statements, storage
from ops.declarations import load
from ops.levels import Level
from tests.ops.doctor.conftest import Ward, as_role
from tests.ops.doctor.rows import ran

DAY = timedelta(days=1)
SECRET = "what somebody wrote"


def recorded(ward: Ward) -> dict[str, Any]:
    """What the job would write down now."""
    ward.run("ANALYZE")
    with ward.flask_app.app_context():
        figures = load(RECORD_FIGURES.where)()
    return dict(orjson.loads(orjson.dumps(figures, default=str)))


def asked(ward: Ward, times: int) -> None:
    """A statement of ours, so often."""
    for _ in range(times):
        ward.run(f"SELECT /* test.sleeps rid=1234 */ pg_sleep(0.002), '{SECRET}'")


def slow(ward: Ward, *arguments: str) -> dict[str, Any]:
    result = ward.call("slow", "--json", *arguments)
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    report: dict[str, Any] = orjson.loads(result.stdout)["report"]
    return {**report, "statements": {each["statement"]: each for each in report["statements"]}}


def test_statements_are_counted_under_our_names(ward: Ward) -> None:
    asked(ward, 3)
    report = slow(ward, "--since", "90min")
    mine = report["statements"]["test.sleeps"]
    assert mine["calls"] == 3
    assert mine["mean_ms"] >= 2
    assert mine["longest_ms"] >= mine["mean_ms"]
    assert "other" not in report["statements"]
    assert "other" in slow(ward, "--all")["statements"]


def test_a_window_begins_at_the_figures_before_it(ward: Ward) -> None:
    asked(ward, 5)
    ran(ward, RECORD_FIGURES.name, 2 * DAY, report=recorded(ward))
    asked(ward, 2)
    ran(ward, RECORD_FIGURES.name, timedelta(hours=1), report=recorded(ward))
    asked(ward, 4)
    of_a_day = slow(ward, "--since", "24h")
    assert of_a_day["statements"]["test.sleeps"]["calls"] == 6
    assert of_a_day["why"] is None
    assert datetime.now(UTC) - datetime.fromisoformat(of_a_day["since"]) > DAY
    assert slow(ward, "--since", "30min")["statements"]["test.sleeps"]["calls"] == 4
    of_a_week = slow(ward, "--since", "1w")
    assert of_a_week["statements"]["test.sleeps"]["calls"] == 6
    assert of_a_week["why"] == "no figures were recorded before that"


def test_figures_from_before_a_reset_are_not_taken_off(ward: Ward) -> None:
    asked(ward, 5)
    figures = recorded(ward)
    ran(ward, RECORD_FIGURES.name, 2 * DAY, report={**figures, "counting_since": "2026-01-01T00:00:00+00:00"})
    asked(ward, 1)
    report = slow(ward, "--since", "24h")
    assert report["why"] == "the statistics were reset then"
    assert report["statements"]["test.sleeps"]["calls"] == 6


def test_a_statement_that_was_forgotten_meanwhile_counts_from_anew(ward: Ward) -> None:
    asked(ward, 2)
    figures = recorded(ward)
    figures["statements"]["test.sleeps"] = [1_000_000, 5e6, 9.0, 7]
    ran(ward, RECORD_FIGURES.name, 2 * DAY, report=figures)
    mine = slow(ward, "--since", "24h")["statements"]["test.sleeps"]
    assert mine["calls"] == 2


@pytest.mark.parametrize(
    ("slow_ms", "very_slow_ms", "often", "level"),
    [(0.5, 1e6, 3, Level.WARNING), (0.5, 1.0, 3, Level.CRITICAL), (0.5, 1.0, 4, Level.OK), (1e6, 1e6, 3, Level.OK)],
)
def test_a_slow_statement_is_told_by_its_name(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, slow_ms: float, very_slow_ms: float, often: int, level: Level
) -> None:
    for name, value in {"SLOW_MS": slow_ms, "VERY_SLOW_MS": very_slow_ms, "OFTEN": often}.items():
        monkeypatch.setattr(statements, name, value)
    asked(ward, 3)
    answer = ward.ask("statements.slow")
    assert answer.level is level
    assert [finding.what.split()[0] for finding in answer.findings] == ([] if level is Level.OK else ["test.sleeps"])
    assert SECRET not in repr(answer)


def test_without_the_extension_nothing_is_known_and_everything_else_is_written_down(ward: Ward) -> None:
    ward.run("DROP EXTENSION pg_stat_statements")
    answer = ward.ask("statements.slow")
    assert answer.level is Level.UNKNOWN
    assert "CREATE EXTENSION pg_stat_statements" in str(answer.remedy)
    result = ward.call("slow")
    assert result.exit_code == 3
    assert "not installed" in result.stderr
    figures = recorded(ward)
    assert figures["statements"] is None
    assert "not installed" in figures["lacking"]
    assert figures["tables"]["users"][0] == 0


def test_statements_of_others_that_one_may_not_see_have_no_name(
    admit: Callable[..., Ward], ward: Ward, role: str
) -> None:
    asked(ward, 1)
    weak = admit(database={"url": as_role(ward.url, role)})
    ward.run(f'GRANT SELECT ON job_runs TO "{role}"')
    report = slow(weak, "--all")
    assert "test.sleeps" not in report["statements"]
    assert report["statements"]["hidden"]["calls"] > 0


def grown(ward: Ward, ago: timedelta) -> None:
    """The turns' table had this size so long ago, and has more now."""
    ran(ward, RECORD_FIGURES.name, ago, report=recorded(ward))
    ward.run("CREATE TABLE heap AS SELECT repeat('x', 500) AS filling FROM generate_series(1, 20000)", "ANALYZE heap")


def test_growth_needs_figures_of_another_day(ward: Ward) -> None:
    assert ward.call("growth").exit_code == 3
    ran(ward, RECORD_FIGURES.name, timedelta(hours=20), report=recorded(ward))
    result = ward.call("growth")
    assert result.exit_code == 3
    assert "The first were recorded at" in result.stderr


def test_growth_is_told_table_by_table(ward: Ward) -> None:
    grown(ward, 10 * DAY)
    result = ward.call("growth", "--weeks", "1", "--json")
    assert result.exit_code == 0, result.output
    report = orjson.loads(result.stdout)["report"]
    assert report["days"] == pytest.approx(10, abs=0.1)
    first = report["tables"][0]
    assert first["table"] == "heap"
    assert first["grown_bytes"] > 10_000_000
    assert first["grown_rows"] == 20_000
    assert report["bytes_a_day"] == pytest.approx(report["grown_bytes"] / 10, rel=0.02)
    shown = ward.call("growth")
    assert "no figures were recorded before that" in shown.stdout
    assert "heap" in shown.stdout


def test_a_small_database_is_no_concern(ward: Ward) -> None:
    assert ward.ask("storage.growth").level is Level.OK


def test_a_database_that_grows_fast_or_fills_its_disk_soon(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SMALL", 0)
    assert ward.ask("storage.growth").level is Level.UNKNOWN
    grown(ward, 2 * DAY)
    (finding,) = ward.ask("storage.growth").findings
    assert finding.level is Level.WARNING
    assert "heap" in finding.what
    monkeypatch.setattr(storage, "SOON", timedelta(days=40_000))
    levels = [finding.level for finding in ward.ask("storage.growth").findings]
    assert levels == [Level.WARNING, Level.WARNING]
    monkeypatch.setattr(storage, "VERY_SOON", timedelta(days=40_000))
    assert ward.ask("storage.growth").level is Level.CRITICAL


def test_disks_that_are_nearly_full(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PLENTY", float("inf"))
    monkeypatch.setattr(storage, "LITTLE", float("inf"))
    monkeypatch.setattr(storage, "VERY_LOW", 0.0)
    monkeypatch.setattr(storage, "NEARLY_NOTHING", 0)
    answer = ward.ask("storage.disk")
    assert {finding.level for finding in answer.findings} == {Level.WARNING}
    assert answer.findings[0].what.startswith("PARLEY_HOME has")
    if answer.reason is None:  # whether the database's folder may be looked at depends on who runs this
        assert answer.findings[1].what.startswith("The database has")
    monkeypatch.setattr(storage, "VERY_LOW", 1.1)
    assert ward.ask("storage.disk").level is Level.CRITICAL


def test_of_a_disk_elsewhere_nothing_is_known(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PLENTY", 0)  # whatever this machine's own disk has left
    monkeypatch.setattr(storage, "peer_address", lambda _: "10.1.2.3")
    answer = ward.ask("storage.disk")
    assert answer.level is Level.UNKNOWN
    assert "another host" in str(answer.reason)


def test_a_folder_that_another_server_works_in_is_not_taken_for_ours(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PLENTY", 0)
    monkeypatch.setattr(storage, "STARTED_WITHIN", -1)
    answer = ward.ask("storage.disk")
    assert answer.level is Level.UNKNOWN
