"""Checks of transactions and slots, with real sessions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread

import orjson
import pytest
from sqlalchemy import Connection

from ops.doctor.checks import replication, transactions
from ops.levels import Level
from tests.ops.doctor.conftest import DoctorInstall, as_role
from tests.ops.installation import run_on
from tests.waiting import wait_until

SECRET = "text of a user"
NOW, NEVER = timedelta(), timedelta(days=1)


def idle_in_transaction(install: DoctorInstall, *statements: str) -> Connection:
    """Open a transaction, run these statements, and leave the session idle."""
    session = install.open()
    run_on(session, "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0", "BEGIN", *statements)
    return session


def pid_of(session: Connection) -> int:
    return int(session.connection.dbapi_connection.info.backend_pid)  # type: ignore[union-attr]


@contextmanager
def waiting_session(install: DoctorInstall, statement: str) -> Iterator[int]:
    """Run `statement` in a session until it waits for a lock. Yields its pid; the session is ended afterwards."""
    session = install.open()
    run_on(session, "SET lock_timeout = 0; SET statement_timeout = 0; SET application_name = 'second'")

    def work() -> None:
        with pytest.raises(Exception, match="canceling statement"):
            run_on(session, statement)

    thread = Thread(target=work)
    thread.start()
    pid = pid_of(session)
    try:
        wait_until(lambda: bool(install.run("SELECT 1 FROM pg_locks WHERE pid = %(pid)s AND NOT granted", pid=pid)))
        yield pid
    finally:
        install.run("SELECT pg_cancel_backend(%(pid)s)", pid=pid)
        thread.join()


def test_lock_waits_are_reported_without_statement_text(
    install: DoctorInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "BLOCKED", NOW)
    holder = idle_in_transaction(install, "LOCK /* test.holder rid=abc123 */ TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting_session(install, f"SELECT /* test.waiter */ '{SECRET}' FROM users") as pid:
        result = install.run_check("transactions.blocked")
        (finding,) = result.findings
        assert finding.level is Level.WARNING
        assert f"session {pid_of(holder)}" in finding.message
        assert "test.holder" in finding.message
        assert finding.evidence["blocker"]["request"] == "abc123"
        assert finding.evidence["blocker"]["state"] == "idle in transaction"
        assert finding.evidence["waiting"] == [f"{pid} test.waiter AccessShareLock on users"]
        assert (
            finding.sql == f"SELECT pg_terminate_backend({pid_of(holder)})"
        )  # an idle session has no statement to cancel
        shown = install.call("locks")
        assert shown.exit_code == 1
        assert "test.holder" in shown.stdout
        output = install.call("locks", "--json")
        locks = orjson.loads(output.stdout)["report"]["locks"]
        assert locks["roots"] == [pid_of(holder)]
        assert [(session["pid"], session["blocked_by"]) for session in locks["waiting"]] == [(pid, [pid_of(holder)])]
        assert SECRET not in repr(result) + shown.output + output.output
    assert install.run_check("transactions.blocked").level is Level.OK
    assert install.call("locks").exit_code == 0


def test_root_of_a_lock_queue_is_reported_once(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "BLOCKED", NOW)
    monkeypatch.setattr(transactions, "STUCK", NOW)
    holder = idle_in_transaction(install, "LOCK TABLE users IN ROW EXCLUSIVE MODE")
    with waiting_session(install, "TRUNCATE users CASCADE"), waiting_session(install, "SELECT FROM users"):
        (finding,) = install.run_check("transactions.blocked").findings
        assert finding.level is Level.CRITICAL
        assert finding.message.startswith(f"2 sessions wait for session {pid_of(holder)}")


def test_short_wait_is_ignored(install: DoctorInstall) -> None:
    idle_in_transaction(install, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting_session(install, "SELECT FROM users"):
        assert install.run_check("transactions.blocked").level is Level.OK


@pytest.mark.parametrize(("very_idle", "level"), [(NEVER, Level.WARNING), (NOW, Level.CRITICAL)])
def test_idle_transaction_is_found(
    install: DoctorInstall, monkeypatch: pytest.MonkeyPatch, very_idle: timedelta, level: Level
) -> None:
    monkeypatch.setattr(transactions, "IDLE", NOW)
    monkeypatch.setattr(transactions, "VERY_IDLE", very_idle)
    session = idle_in_transaction(install, f"SELECT /* test.left */ '{SECRET}'")
    result = install.run_check("transactions.idle")
    (finding,) = result.findings
    assert finding.level is level
    assert finding.evidence["pid"] == pid_of(session)
    assert finding.evidence["statement"] == "test.left"
    assert SECRET not in repr(result)
    run_on(session, "ROLLBACK")
    assert install.run_check("transactions.idle").level is Level.OK


def test_long_transaction_is_found(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "LONG", NOW)
    idle_in_transaction(install, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting_session(install, "SELECT /* test.works */ FROM users") as pid:
        (finding,) = install.run_check("transactions.long").findings  # the idle one is reported by another check
        assert finding.evidence["pid"] == pid
        assert finding.level is Level.WARNING


def test_long_backup_is_ignored(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "LONG", NOW)
    idle_in_transaction(install, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting_session(install, "SET application_name = 'pg_dump'; SELECT FROM users"):
        assert install.run_check("transactions.long").level is Level.OK


def test_hidden_sessions_are_unknown(
    make_install: Callable[..., DoctorInstall], install: DoctorInstall, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "IDLE", NOW)
    idle_in_transaction(install, "SELECT 1")
    weak = make_install(database={"url": as_role(install.url, role)})
    result = weak.run_check("transactions.idle")
    assert result.level is Level.UNKNOWN
    assert "hidden from this role" in str(result.reason)
    install.run(f'GRANT pg_read_all_stats TO "{role}"')
    assert weak.run_check("transactions.idle").level is Level.WARNING
    install.run(f'REVOKE pg_read_all_stats FROM "{role}"')


def test_inactive_slot_is_found(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"slot_{install.run('SELECT oid FROM pg_database WHERE datname = current_database()')[0][0]}"
    install.run(f"SELECT pg_create_physical_replication_slot('{name}', true)")
    try:
        assert install.run_check("replication.slots").level is Level.OK
        if install.run("SELECT current_setting('server_version_num')::int >= 170000")[0][0]:
            with monkeypatch.context() as patched:
                patched.setattr(replication, "INACTIVE", timedelta())
                (finding,) = [
                    finding for finding in install.run_check("replication.slots").findings if name in finding.message
                ]
                assert "has been inactive for" in finding.message
        monkeypatch.setattr(replication, "WAL_BYTES", 0)
        (finding,) = [finding for finding in install.run_check("replication.slots").findings if name in finding.message]
        assert finding.level is Level.WARNING
        assert finding.evidence["active"] is False
        monkeypatch.setattr(replication, "MUCH_WAL_BYTES", 0)
        (finding,) = [finding for finding in install.run_check("replication.slots").findings if name in finding.message]
        assert finding.level is Level.CRITICAL
        assert finding.sql == f"SELECT pg_drop_replication_slot('{name}');"
    finally:
        install.run(f"SELECT pg_drop_replication_slot('{name}');")
