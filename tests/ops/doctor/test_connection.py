"""The way to the database: away, slow, old, read only, with another clock, unencrypted, unprivileged."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from sqlalchemy import make_url

from app.extensions import db
from ops import doctor
from ops.catalogue import CHECKS
from ops.checks import connection, encryption
from ops.checks.encryption import is_public
from ops.levels import Level
from tests.faults.proxy import Proxy
from tests.ops.doctor.conftest import Ward, as_role


@pytest.fixture
def url(shared_url: str) -> str:
    """Nothing here changes the database for good."""
    return shared_url


@pytest.fixture
def wire(url: str) -> Iterator[Proxy]:
    """A wire to the database that can be cut."""
    to = make_url(url)
    with Proxy((str(to.host), int(to.port or 0))) as proxy:
        yield proxy


def by(wire: Proxy, url: str) -> str:
    return make_url(url).set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)


def test_a_healthy_database_is_ok_by_every_check(ward: Ward) -> None:
    checks = ("reachable", "version", "writable", "clock", "encryption", "same_database", "pooler", "timeouts")
    answers = [ward.ask(f"connection.{name}") for name in (*checks, "privileges")]
    assert [(answer.check, answer.level, answer.reason) for answer in answers if answer.level is not Level.OK] == []


def test_a_database_that_is_away_is_critical_and_the_rest_cannot_be_judged(
    admit: Callable[..., Ward], url: str, wire: Proxy
) -> None:
    ward = admit(database={"url": by(wire, url)})
    wire.cut()
    answer = ward.ask("connection.reachable")
    assert answer.level is Level.CRITICAL
    (finding,) = answer.findings
    assert "DATABASE_URL" in finding.what
    assert "refused" in finding.what
    assert finding.evidence == {"host": "127.0.0.1", "port": wire.port, "database": make_url(url).database}
    others = [ward.ask(check) for check in ("connection.version", "migrations.current", "beat.alive", "pool.in_use")]
    assert {other.level for other in others} == {Level.UNKNOWN}
    assert all("cannot be reached" in str(other.reason) for other in others)
    wire.mend()
    assert ward.ask("connection.reachable").level is Level.OK


def test_a_black_hole_is_waited_for_once_by_each_way(
    admit: Callable[..., Ward], url: str, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    connect = psycopg2.connect
    monkeypatch.setattr(psycopg2, "connect", lambda *a, **k: tried.append(k["port"]) or connect(*a, **k))
    ward = admit(database={"url": by(wire, url), "direct_url": by(wire, url), "connect_timeout": 1})
    wire.silence()
    tried.clear()
    with ward.flask_app.app_context():
        checks = [check for check in CHECKS if check.group in ("connection", "transactions")]
        answers = doctor.examine(checks=checks).answers
    assert len(tried) == 2
    assert [finding.level for finding in answers[0].findings] == [Level.CRITICAL, Level.CRITICAL]
    assert {answer.level for answer in answers[1:]} == {Level.UNKNOWN}


@pytest.mark.parametrize(("away", "named"), [("url", "DATABASE_URL"), ("direct_url", "DATABASE_DIRECT_URL")])
def test_each_of_the_two_ways_is_tried(
    admit: Callable[..., Ward], url: str, wire: Proxy, away: str, named: str
) -> None:
    other = {"url": "direct_url", "direct_url": "url"}[away]
    ward = admit(database={away: by(wire, url), other: url})
    assert ward.ask("connection.reachable").level is Level.OK
    wire.cut()
    (finding,) = ward.ask("connection.reachable").findings
    assert finding.level is Level.CRITICAL
    assert f"by {named}:" in finding.what


def test_connections_that_broke_while_they_lay_in_the_pool_are_no_finding(
    admit: Callable[..., Ward], url: str, wire: Proxy
) -> None:
    """A worker that asks every ten minutes meets those that a restart of the server has broken."""
    ward = admit(database={"url": by(wire, url)})
    with ward.flask_app.app_context():
        with db.engine.connect(), db.engine.connect():
            pass
        assert db.engine.pool.checkedin() == 2  # type: ignore[attr-defined]
        wire.cut()
        wire.mend()
        checks = [check for check in CHECKS if check.id in ("connection.reachable", "connection.privileges")]
        answers = doctor.examine(checks=checks).answers
    assert [answer.level for answer in answers] == [Level.OK, Level.OK]


def test_a_wrong_password_is_named_and_not_told(admit: Callable[..., Ward], url: str) -> None:
    wrong = make_url(url).set(password="not-this-one").render_as_string(hide_password=False)
    answer = admit(database={"url": wrong}).ask("connection.reachable")
    (finding,) = answer.findings
    assert "password authentication failed" in finding.what
    assert finding.remedy == "Correct the account or password in DATABASE_URL"
    assert "not-this-one" not in repr(answer)


def test_a_connection_that_breaks_in_the_midst_is_no_answer(admit: Callable[..., Ward], url: str, wire: Proxy) -> None:
    ward = admit(database={"url": by(wire, url)})
    wire.cut_after(b"ops.writable")
    answer = ward.ask("connection.writable")
    assert answer.level is Level.UNKNOWN
    assert answer.reason


@pytest.mark.parametrize(("slow", "very_slow", "level"), [(0, 3600, Level.WARNING), (0, 0, Level.CRITICAL)])
def test_a_long_way(ward: Ward, monkeypatch: pytest.MonkeyPatch, slow: int, very_slow: int, level: Level) -> None:
    monkeypatch.setattr(connection, "SLOW", timedelta(seconds=slow))
    monkeypatch.setattr(connection, "VERY_SLOW", timedelta(seconds=very_slow))
    (finding,) = ward.ask("connection.latency").findings
    assert finding.level is level
    assert finding.evidence["best"] <= finding.evidence["middle"] <= finding.evidence["worst"]


def test_an_old_server(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "OLDEST", 99)
    (finding,) = ward.ask("connection.version").findings
    assert finding.level is Level.CRITICAL
    assert finding.evidence["version"] >= 15


def test_a_database_that_is_only_to_be_read(ward: Ward) -> None:
    name = make_url(ward.url).database
    ward.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    (finding,) = ward.ask("connection.writable").findings
    ward.run(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert finding.level is Level.CRITICAL
    assert finding.evidence == {"in_recovery": False, "read_only": True}


@pytest.mark.parametrize(("ahead", "level"), [(5.0, Level.WARNING), (-5.0, Level.WARNING), (60.0, Level.CRITICAL)])
def test_a_clock_that_is_wrong(ward: Ward, monkeypatch: pytest.MonkeyPatch, ahead: float, level: Level) -> None:
    now = time.time
    monkeypatch.setattr(connection.time, "time", lambda: now() + ahead)
    (finding,) = ward.ask("connection.clock").findings
    assert finding.level is level
    assert ("behind" in finding.what) is (ahead > 0)


def test_what_goes_through_a_public_network_must_be_encrypted(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "peer_address", lambda _: "203.0.114.7")
    (finding,) = ward.ask("connection.encryption").findings
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
def test_which_addresses_are_public(address: str | None, public: bool) -> None:
    assert is_public(address) is public


def test_an_account_that_may_not_write_is_told_what_it_lacks(admit: Callable[..., Ward], ward: Ward, role: str) -> None:
    ward.run(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"', f'GRANT INSERT ON messages TO "{role}"')
    ward.run(f'REVOKE SELECT ON alembic_version FROM "{role}"')
    weak = admit(database={"url": as_role(ward.url, role), "direct_url": ward.url})
    finding, version = weak.ask("connection.privileges").findings
    assert "lacks SELECT on alembic_version" in version.what
    ward.run(str(version.sql))
    assert finding.level is Level.CRITICAL
    assert "lacks INSERT, UPDATE, DELETE on" in finding.what
    assert finding.evidence["messages"] == ["UPDATE", "DELETE"]
    assert finding.evidence["turns"] == ["INSERT", "UPDATE", "DELETE"]
    ward.run(str(finding.sql))
    assert weak.ask("connection.privileges").level is Level.OK


def test_a_table_that_may_not_be_read_is_no_matter_of_monitoring(
    admit: Callable[..., Ward], ward: Ward, role: str
) -> None:
    answer = admit(database={"url": as_role(ward.url, role)}).ask("migrations.current")
    assert answer.level is Level.UNKNOWN
    assert answer.remedy == "flask ops doctor --only connection.privileges"


def test_an_account_that_owns_nothing_cannot_migrate(admit: Callable[..., Ward], ward: Ward, role: str) -> None:
    ward.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
    weak = admit(database={"url": ward.url, "direct_url": as_role(ward.url, role)})
    (finding,) = weak.ask("connection.privileges").findings
    assert finding.level is Level.WARNING
    assert "cannot migrate" in finding.what
    assert "turns" in finding.evidence["tables"]


def test_two_urls_that_lead_to_two_databases(admit: Callable[..., Ward], url: str) -> None:
    elsewhere = make_url(url).set(database="postgres").render_as_string(hide_password=False)
    (finding,) = admit(database={"url": url, "direct_url": elsewhere}).ask("connection.same_database").findings
    assert finding.level is Level.CRITICAL
    differs: dict[str, Any] = dict(finding.evidence)
    assert set(differs) == {"database", "oid"}
    assert differs["database"]["DATABASE_DIRECT_URL"] == "postgres"
    assert admit(database={"url": url, "direct_url": url}).ask("connection.same_database").level is Level.OK
