"""Advice on settings of the whole server, on a server of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import Settings
from ops import embedded
from ops.levels import Level
from tests.ops.conftest import home
from tests.ops.doctor.advice.following import follow
from tests.ops.doctor.conftest import DoctorInstall, open_install
from tests.ops.doctor.test_migrations import at

__all__ = ["home"]


@pytest.fixture
def own_server(home: Path, settings: Settings) -> Iterator[DoctorInstall]:
    """Create an installation on a server that no other test uses."""
    with embedded.lease_postgres(home, durable=False) as lease, open_install(lease.url, settings, {}) as install:
        with at(install, "head"):
            pass
        yield install


def test_setting_of_the_server_is_fixed(own_server: DoctorInstall) -> None:
    for check, setting, value in (
        ("tables.autovacuum", "autovacuum_vacuum_scale_factor", "20"),
        ("tables.autovacuum", "autovacuum_analyze_threshold", "2000000000"),
        ("tables.autovacuum", "autovacuum_naptime", "'1d'"),
        ("tables.statistics", "autovacuum", "off"),
        ("server.memory", "work_mem", "'64kB'"),
        ("storage.durable", "synchronous_commit", "off"),
        ("server.planner", "random_page_cost", "100"),
        ("server.planner", "effective_cache_size", "'1MB'"),
        ("server.planner", "default_statistics_target", "1"),
        ("server.planner", "log_statement", "'all'"),
        ("server.planner", "log_min_duration_statement", "0"),
        ("server.planner", "track_activities", "off"),
    ):
        own_server.run(f"ALTER SYSTEM SET {setting} = {value}", "SELECT pg_reload_conf()", "SELECT pg_sleep(0.3)::text")
        findings = [finding for finding in own_server.run_check(check).findings if finding.object == setting]
        assert [finding.level for finding in findings] != [], setting
        for finding in findings:
            follow(own_server, finding)
        own_server.run("SELECT pg_sleep(0.3)::text")
        again = own_server.run_check(check)
        assert [finding for finding in again.findings if finding.object == setting] == [], setting
        assert again.level is not Level.UNKNOWN
