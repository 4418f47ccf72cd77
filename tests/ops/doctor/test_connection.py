"""Checks of the connection: unreachable, slow, old, read-only, skewed clock, unencrypted, unprivileged."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import make_url

from app.extensions import db
from ops.doctor import run
from ops.doctor.checks import connection, encryption
from ops.doctor.checks.encryption import is_public
from ops.doctor.registry import CHECKS
from ops.embedded import URL_WHEN_STARTED, state
from ops.embedded.site import open_site
from ops.levels import Level
from tests.faults.proxy import Proxy
from tests.ops.doctor.conftest import DoctorInstall, as_role


@pytest.fixture
def url(shared_url: str) -> str:
    """Share the database, which these tests do not change."""
    return shared_url


@pytest.fixture
def wire(url: str) -> Iterator[Proxy]:
    """Start a proxy to the database that can be interrupted."""
    to = make_url(url)
    with Proxy((str(to.host), int(to.port or 0))) as proxy:
        yield proxy


def by(wire: Proxy, url: str) -> str:
    return make_url(url).set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)


def test_healthy_database_is_ok_in_every_check(install: DoctorInstall) -> None:
    checks = ("reachable", "version", "writable", "clock", "encryption", "same_database", "pooler", "settings")
    results = [install.run_check(f"connection.{name}") for name in (*checks, "privileges")]
    assert [(result.check, result.level, result.reason) for result in results if result.level is not Level.OK] == []


def test_unreachable_database_is_critical_and_the_rest_unknown(
    make_install: Callable[..., DoctorInstall], url: str, wire: Proxy
) -> None:
    install = make_install(database={"url": by(wire, url)})
    wire.cut()
    result = install.run_check("connection.reachable")
    assert result.level is Level.CRITICAL
    (finding,) = result.findings
    assert "DATABASE_URL" in finding.message
    assert "refused" in finding.message
    assert finding.evidence == {"host": "127.0.0.1", "port": wire.port, "database": make_url(url).database}
    others = [
        install.run_check(check) for check in ("connection.version", "migrations.current", "beat.alive", "pool.in_use")
    ]
    assert {other.level for other in others} == {Level.UNKNOWN}
    assert all("cannot be reached" in str(other.reason) for other in others)
    wire.repair()
    assert install.run_check("connection.reachable").level is Level.OK


def test_unresponsive_address_costs_one_timeout_per_url(
    make_install: Callable[..., DoctorInstall], url: str, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    connect = psycopg2.connect
    monkeypatch.setattr(psycopg2, "connect", lambda *a, **k: tried.append(k["port"]) or connect(*a, **k))
    install = make_install(database={"url": by(wire, url), "direct_url": by(wire, url), "connect_timeout": 1})
    wire.black_hole()
    tried.clear()
    with install.flask_app.app_context():
        checks = [check for check in CHECKS if check.group in ("connection", "transactions")]
        results = run.run_doctor(checks=checks).results
    assert len(tried) == 2
    assert [finding.level for finding in results[0].findings] == [Level.CRITICAL, Level.CRITICAL]
    assert {result.level for result in results[1:]} == {Level.UNKNOWN}


@pytest.mark.parametrize(("away", "named"), [("url", "DATABASE_URL"), ("direct_url", "DATABASE_DIRECT_URL")])
def test_both_urls_are_tried(
    make_install: Callable[..., DoctorInstall], url: str, wire: Proxy, away: str, named: str
) -> None:
    other = {"url": "direct_url", "direct_url": "url"}[away]
    install = make_install(database={away: by(wire, url), other: url})
    assert install.run_check("connection.reachable").level is Level.OK
    wire.cut()
    (finding,) = install.run_check("connection.reachable").findings
    assert finding.level is Level.CRITICAL
    assert f"by {named}:" in finding.message


def test_broken_pooled_connections_are_replaced(
    make_install: Callable[..., DoctorInstall], url: str, wire: Proxy
) -> None:
    """As after a restart of the server, between two scheduled runs of the doctor."""
    install = make_install(database={"url": by(wire, url)})
    with install.flask_app.app_context():
        with db.engine.connect(), db.engine.connect():
            pass
        assert db.engine.pool.checkedin() == 2  # type: ignore[attr-defined]
        wire.cut()
        wire.repair()
        checks = [check for check in CHECKS if check.id in ("connection.reachable", "connection.privileges")]
        results = run.run_doctor(checks=checks).results
    assert [result.level for result in results] == [Level.OK, Level.OK]


def test_wrong_password_is_reported_without_revealing_it(make_install: Callable[..., DoctorInstall], url: str) -> None:
    wrong = make_url(url).set(password="not-this-one").render_as_string(hide_password=False)
    result = make_install(database={"url": wrong}).run_check("connection.reachable")
    (finding,) = result.findings
    assert "password authentication failed" in finding.message
    assert finding.remedy == "Correct the role or password in DATABASE_URL"
    assert "not-this-one" not in repr(result)


def test_connection_lost_during_a_check_is_unknown(
    make_install: Callable[..., DoctorInstall], url: str, wire: Proxy
) -> None:
    install = make_install(database={"url": by(wire, url)})
    wire.drop_reply_to(b"ops.writable")
    result = install.run_check("connection.writable")
    assert result.level is Level.UNKNOWN
    assert result.reason


@pytest.mark.parametrize(("slow", "very_slow", "level"), [(0, 3600, Level.WARNING), (0, 0, Level.CRITICAL)])
def test_high_latency_is_found(
    install: DoctorInstall, monkeypatch: pytest.MonkeyPatch, slow: int, very_slow: int, level: Level
) -> None:
    monkeypatch.setattr(connection, "SLOW", timedelta(seconds=slow))
    monkeypatch.setattr(connection, "VERY_SLOW", timedelta(seconds=very_slow))
    (finding,) = install.run_check("connection.latency").findings
    assert finding.level is level
    assert finding.evidence["best"] <= finding.evidence["median"] <= finding.evidence["worst"]


def test_old_version_is_critical(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MIN_VERSION", 99)
    (finding,) = install.run_check("connection.version").findings
    assert finding.level is Level.CRITICAL
    assert finding.evidence["version"] >= 15


def test_read_only_database_is_critical(install: DoctorInstall) -> None:
    name = make_url(install.url).database
    install.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    (finding,) = install.run_check("connection.writable").findings
    install.run(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert finding.level is Level.CRITICAL
    assert finding.evidence == {"in_recovery": False, "read_only": True}


@pytest.mark.parametrize(("ahead", "level"), [(5.0, Level.WARNING), (-5.0, Level.WARNING), (60.0, Level.CRITICAL)])
def test_clock_skew_is_found(
    install: DoctorInstall, monkeypatch: pytest.MonkeyPatch, ahead: float, level: Level
) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead)
    (finding,) = install.run_check("connection.clock").findings
    assert finding.level is level
    assert ("behind" in finding.message) is (ahead > 0)


def test_public_connection_without_tls_is_critical(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "peer_address", lambda _: "203.0.114.7")
    (finding,) = install.run_check("connection.encryption").findings
    assert finding.level is Level.CRITICAL
    assert finding.evidence["tls"] is None


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (None, False),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("8.8.8.8", True),
        ("::ffff:8.8.8.8", True),
        ("::ffff:10.0.0.1", False),
        ("2001:4860:4860::8888", True),
    ],
)
def test_public_addresses(address: str | None, public: bool) -> None:
    assert is_public(address) is public


def test_missing_write_privileges_are_listed(
    make_install: Callable[..., DoctorInstall], install: DoctorInstall, role: str
) -> None:
    install.run(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"', f'GRANT INSERT ON messages TO "{role}"')
    install.run(f'REVOKE SELECT ON alembic_version FROM "{role}"')
    weak = make_install(database={"url": as_role(install.url, role), "direct_url": install.url})
    finding, version = weak.run_check("connection.privileges").findings
    assert "lacks SELECT on alembic_version" in version.message
    install.run(str(version.sql))
    assert finding.level is Level.CRITICAL
    assert "lacks INSERT, UPDATE, DELETE on" in finding.message
    assert finding.evidence["messages"] == ["UPDATE", "DELETE"]
    assert finding.evidence["turns"] == ["INSERT", "UPDATE", "DELETE"]
    install.run(str(finding.sql))
    assert weak.run_check("connection.privileges").level is Level.OK


def test_unreadable_table_is_a_missing_privilege(
    make_install: Callable[..., DoctorInstall], install: DoctorInstall, role: str
) -> None:
    result = make_install(database={"url": as_role(install.url, role)}).run_check("migrations.current")
    assert result.level is Level.UNKNOWN
    assert result.remedy == "flask ops doctor --only connection.privileges"


def test_role_without_ownership_cannot_migrate(
    make_install: Callable[..., DoctorInstall], install: DoctorInstall, role: str
) -> None:
    install.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
    weak = make_install(database={"url": install.url, "direct_url": as_role(install.url, role)})
    (finding,) = weak.run_check("connection.privileges").findings
    assert finding.level is Level.WARNING
    assert "cannot migrate" in finding.message
    assert "turns" in finding.evidence["tables"]


def test_urls_of_different_databases_are_critical(make_install: Callable[..., DoctorInstall], url: str) -> None:
    elsewhere = make_url(url).set(database="postgres").render_as_string(hide_password=False)
    (finding,) = (
        make_install(database={"url": url, "direct_url": elsewhere}).run_check("connection.same_database").findings
    )
    assert finding.level is Level.CRITICAL
    differs: dict[str, Any] = dict(finding.evidence)
    assert set(differs) == {"database", "oid"}
    assert differs["database"]["DATABASE_DIRECT_URL"] == "postgres"
    assert (
        make_install(database={"url": url, "direct_url": url}).run_check("connection.same_database").level is Level.OK
    )


def test_port_of_the_embedded_server_is_reported(make_install: Callable[..., DoctorInstall], tmp_path: Path) -> None:
    """Its URL in the settings is a placeholder with port 1."""
    home = tmp_path / "home"
    install = make_install(database={"url": URL_WHEN_STARTED, "connect_timeout": 1}, server={"home": home})
    (finding,) = install.run_check("connection.reachable").findings
    assert finding.evidence["port"] is None  # it was never started
    state.write(open_site(home), "postgres", state.State(port=54321, version="18.6"))
    (finding,) = install.run_check("connection.reachable").findings
    assert finding.evidence["port"] == 54321
