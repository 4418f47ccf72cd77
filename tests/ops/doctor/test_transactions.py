"""Sessions that hold others up: each made by a real one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread

import orjson
import pytest
from sqlalchemy import Connection

from ops.checks import replication, transactions
from ops.levels import Level
from tests.ops.conftest import eventually
from tests.ops.doctor.conftest import Ward, as_role
from tests.ops.indexes.conftest import run_on

SECRET = "what somebody wrote"
NOW, NEVER = timedelta(), timedelta(days=1)


def begun(ward: Ward, *statements: str) -> Connection:
    """A session that has begun a transaction, done these statements, and waits for its client."""
    session = ward.open()
    run_on(session, "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0", "BEGIN", *statements)
    return session


def pid_of(session: Connection) -> int:
    return int(session.connection.dbapi_connection.info.backend_pid)  # type: ignore[union-attr]


@contextmanager
def waiting(ward: Ward, statement: str) -> Iterator[int]:
    """A session that waits for a lock with `statement`; its process's number. It is ended at the end."""
    session = ward.open()
    run_on(session, "SET lock_timeout = 0; SET statement_timeout = 0; SET application_name = 'second'")

    def work() -> None:
        with pytest.raises(Exception, match="canceling statement"):
            run_on(session, statement)

    thread = Thread(target=work)
    thread.start()
    pid = pid_of(session)
    try:
        eventually(lambda: bool(ward.run("SELECT 1 FROM pg_locks WHERE pid = %(pid)s AND NOT granted", pid=pid)))
        yield pid
    finally:
        ward.run("SELECT pg_cancel_backend(%(pid)s)", pid=pid)
        thread.join()


def test_who_blocks_whom_is_told_by_names_and_never_by_text(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "BLOCKED", NOW)
    holder = begun(ward, "LOCK /* test.holder rid=abc123 */ TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting(ward, f"SELECT /* test.waiter */ '{SECRET}' FROM users") as pid:
        answer = ward.ask("transactions.blocked")
        (finding,) = answer.findings
        assert finding.level is Level.WARNING
        assert f"session {pid_of(holder)}" in finding.what
        assert "test.holder" in finding.what
        assert finding.evidence["blocker"]["request"] == "abc123"
        assert finding.evidence["blocker"]["state"] == "idle in transaction"
        assert finding.evidence["waiting"] == [f"{pid} test.waiter AccessShareLock on users"]
        assert finding.sql == f"SELECT pg_terminate_backend({pid_of(holder)})"  # there is nothing to cancel
        shown = ward.call("locks")
        assert shown.exit_code == 1
        assert "test.holder" in shown.stdout
        told = ward.call("locks", "--json")
        locks = orjson.loads(told.stdout)["report"]["locks"]
        assert locks["roots"] == [pid_of(holder)]
        assert [(each["pid"], each["blocked_by"]) for each in locks["waiting"]] == [(pid, [pid_of(holder)])]
        assert SECRET not in repr(answer) + shown.output + told.output
    assert ward.ask("transactions.blocked").level is Level.OK
    assert ward.call("locks").exit_code == 0


def test_of_a_queue_the_root_is_named_once(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "BLOCKED", NOW)
    monkeypatch.setattr(transactions, "STUCK", NOW)
    holder = begun(ward, "LOCK TABLE users IN ROW EXCLUSIVE MODE")
    with waiting(ward, "TRUNCATE users CASCADE"), waiting(ward, "SELECT FROM users"):
        (finding,) = ward.ask("transactions.blocked").findings
        assert finding.level is Level.CRITICAL
        assert finding.what.startswith(f"2 sessions wait for session {pid_of(holder)}")


def test_a_short_wait_is_nothing(ward: Ward) -> None:
    begun(ward, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting(ward, "SELECT FROM users"):
        assert ward.ask("transactions.blocked").level is Level.OK


@pytest.mark.parametrize(("forgotten", "level"), [(NEVER, Level.WARNING), (NOW, Level.CRITICAL)])
def test_a_transaction_that_was_left_open(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, forgotten: timedelta, level: Level
) -> None:
    monkeypatch.setattr(transactions, "IDLE", NOW)
    monkeypatch.setattr(transactions, "FORGOTTEN", forgotten)
    session = begun(ward, f"SELECT /* test.left */ '{SECRET}'")
    answer = ward.ask("transactions.idle")
    (finding,) = answer.findings
    assert finding.level is level
    assert finding.evidence["pid"] == pid_of(session)
    assert finding.evidence["statement"] == "test.left"
    assert SECRET not in repr(answer)
    run_on(session, "ROLLBACK")
    assert ward.ask("transactions.idle").level is Level.OK


def test_a_transaction_that_works_for_long(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "LONG", NOW)
    begun(ward, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting(ward, "SELECT /* test.works */ FROM users") as pid:
        (finding,) = ward.ask("transactions.long").findings  # the idle one is another check's
        assert finding.evidence["pid"] == pid
        assert finding.level is Level.WARNING


def test_a_backup_may_take_its_time(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "LONG", NOW)
    begun(ward, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    with waiting(ward, "SET application_name = 'pg_dump'; SELECT FROM users"):
        assert ward.ask("transactions.long").level is Level.OK


def test_sessions_that_are_hidden_are_not_judged(
    admit: Callable[..., Ward], ward: Ward, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "IDLE", NOW)
    begun(ward, "SELECT 1")
    weak = admit(database={"url": as_role(ward.url, role)})
    answer = weak.ask("transactions.idle")
    assert answer.level is Level.UNKNOWN
    assert "hidden from this account" in str(answer.reason)
    ward.run(f'GRANT pg_read_all_stats TO "{role}"')
    assert weak.ask("transactions.idle").level is Level.WARNING
    ward.run(f'REVOKE pg_read_all_stats FROM "{role}"')


def test_a_slot_that_nobody_reads(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"slot_{ward.run('SELECT oid FROM pg_database WHERE datname = current_database()')[0][0]}"
    ward.run(f"SELECT pg_create_physical_replication_slot('{name}', true)")
    try:
        assert ward.ask("replication.slots").level is Level.OK
        if ward.run("SELECT current_setting('server_version_num')::int >= 170000")[0][0]:
            with monkeypatch.context() as patched:
                patched.setattr(replication, "FORGOTTEN", timedelta())
                (finding,) = [each for each in ward.ask("replication.slots").findings if name in each.what]
                assert "Nobody has read from" in finding.what
        monkeypatch.setattr(replication, "LOG_BYTES", 0)
        (finding,) = [each for each in ward.ask("replication.slots").findings if name in each.what]
        assert finding.level is Level.WARNING
        assert finding.evidence["active"] is False
        monkeypatch.setattr(replication, "MUCH_LOG_BYTES", 0)
        (finding,) = [each for each in ward.ask("replication.slots").findings if name in each.what]
        assert finding.level is Level.CRITICAL
        assert finding.sql == f"SELECT pg_drop_replication_slot('{name}')"
    finally:
        ward.run(f"SELECT pg_drop_replication_slot('{name}')")
