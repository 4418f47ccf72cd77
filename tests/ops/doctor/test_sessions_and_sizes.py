"""`flask ops sizes`, `locks --end` and `psql`, on a database of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tests.database import fresh_database
from tests.ops.conftest import PROJECT, own_environment
from tests.ops.doctor.conftest import DoctorInstall, as_role
from tests.ops.installation import run_on


@pytest.fixture(scope="module")
def url(shared_url: str) -> str:
    return shared_url


def pid_of(session: Connection) -> int:
    return int(session.connection.dbapi_connection.info.backend_pid)  # type: ignore[union-attr]


def audit(install: DoctorInstall, action: str) -> list[dict[str, Any]]:
    return list(orjson.loads(install.call("audit", "--action", action, "--json").stdout)["report"])


def test_sizes_are_those_of_the_server(install: DoctorInstall) -> None:
    result = install.call("sizes", "--json")
    assert result.exit_code == 0, result.stderr
    tables = {size["table"]: size for size in orjson.loads(result.stdout)["report"]["tables"]}
    assert tables["users"]["total_bytes"] == install.value("SELECT pg_total_relation_size('users')")
    for size in tables.values():
        parts = size["table_bytes"] + size["toast_bytes"] + size["index_bytes"]
        assert size["total_bytes"] == parts
        assert size["index_bytes"] == sum(index["bytes"] for index in size["indexes"])
    assert "pk_users" in install.call("sizes", "--indexes").stdout


def test_size_of_locked_table_is_not_waited_for(install: DoctorInstall) -> None:
    holder = install.open()
    run_on(holder, "BEGIN", "LOCK TABLE leases IN ACCESS EXCLUSIVE MODE")
    tables = orjson.loads(install.call("sizes", "--json").stdout)["report"]["tables"]
    [size] = [size for size in tables if size["table"] == "leases"]
    assert (size["total_bytes"], size["index_bytes"], size["indexes"]) == (None, None, [])
    run_on(holder, "ROLLBACK")


def test_lock_in_another_database_hides_no_size(install: DoctorInstall, postgres: str, template: str) -> None:
    """A copied database has the oids of its template."""
    with fresh_database(postgres, f"{template}_copy", template=template) as url:
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as holder:
            holder.execute(text("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE"))
            tables = orjson.loads(install.call("sizes", "--json").stdout)["report"]["tables"]
    [size] = [size for size in tables if size["table"] == "leases"]
    assert size["total_bytes"] == install.value("SELECT pg_total_relation_size('leases')")


def test_growth_without_history_names_sizes(install: DoctorInstall) -> None:
    result = install.call("growth")
    assert (result.exit_code, "flask ops sizes" in result.stderr) == (3, True)


def test_session_is_ended_and_audited(install: DoctorInstall) -> None:
    session = install.open()
    run_on(session, "BEGIN", "SELECT /* test.holder rid=abc */ 1", "UPDATE users SET name = name")
    pid = pid_of(session)
    unconfirmed = install.call("locks", "--end", str(pid))
    assert unconfirmed.exit_code == 64
    assert f"end the session {pid} parley" in unconfirmed.stderr
    run_on(session, "SELECT 1")  # it still lives
    result = install.call("locks", "--end", str(pid), "--yes", "--json")
    assert result.exit_code == 0, result.stderr
    report = orjson.loads(result.stdout)["report"]
    assert (report["ended"], report["session"]["pid"]) == (True, pid)
    with pytest.raises(DBAPIError):
        session.exec_driver_sql("SELECT 1")
    session.invalidate()
    [event] = audit(install, "session.end")
    assert (event["target"], event["result"], event["details"]["ended"]) == (str(pid), "done", True)
    again = install.call("locks", "--end", str(pid), "--yes")
    assert (again.exit_code, "There is no session" in again.stderr) == (2, True)


@pytest.mark.parametrize("pid", ["0", "-1", "99999999999999999999"])
def test_impossible_process_id_is_refused(install: DoctorInstall, pid: str) -> None:
    result = install.call("locks", f"--end={pid}", "--yes")
    assert (result.exit_code, "There is no session" in result.stderr) == (2, True)


def test_session_of_another_database_is_refused(install: DoctorInstall) -> None:
    other = install.open(database="postgres")
    result = install.call("locks", "--end", str(pid_of(other)), "--yes")
    assert (result.exit_code, "is of the database postgres" in result.stderr) == (2, True)
    run_on(other, "SELECT 1")


def test_process_of_the_server_is_refused(install: DoctorInstall) -> None:
    pid = install.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    result = install.call("locks", "--end", str(pid), "--yes")
    assert (result.exit_code, "the server's process 'checkpointer'" in result.stderr) == (2, True)


def test_role_ends_neither_superusers_nor_others(install: DoctorInstall, role: str, make_install: Any) -> None:
    session = install.open()
    install.run(f'GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO "{role}"')
    limited = make_install(database={"url": as_role(install.url, role)})
    result = limited.call("locks", "--end", str(pid_of(session)), "--yes")
    assert (result.exit_code, "only a superuser may end it" in result.stderr) == (2, True)
    other = f"{role}_other"
    install.run(f"CREATE ROLE \"{other}\" LOGIN PASSWORD '{other}'")
    theirs = install.open(username=other, password=other)
    result = limited.call("locks", "--end", str(pid_of(theirs)), "--yes")
    assert (result.exit_code, "GRANT pg_signal_backend" in result.stderr) == (2, True)
    run_on(theirs, "SELECT 1")
    theirs.close()
    install.run(f'DROP ROLE "{other}"')


def flask_psql(install: DoctorInstall, home: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    secret = install.settings.auth.jwt_secret_key
    assert secret is not None
    environment = own_environment(
        DATABASE_URL=install.url, JWT_SECRET_KEY=secret.get_secret_value(), PARLEY_HOME=str(home), **more
    )
    command = [sys.executable, "-m", "flask", "ops", "psql", "--", *arguments]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.process
def test_psql_connects_as_the_application_does(install: DoctorInstall, tmp_path: Path) -> None:
    shown = "SELECT current_database(), current_user, current_setting('jit'), current_setting('application_name')"
    command_line = r"\! tr '\0' ' ' < /proc/$PPID/cmdline"
    result = flask_psql(install, tmp_path, "-XAt", "-c", shown, "-c", "SHOW statement_timeout", "-c", command_line)
    assert result.returncode == 0, result.stderr
    where = make_url(install.url)
    row, timeout, seen = result.stdout.splitlines()
    assert row == f"{where.database}|{where.username}|off|parley-psql"
    assert timeout == install.value("SHOW statement_timeout") or timeout != "0"
    assert where.password is None or str(where.password) not in seen
    failed = flask_psql(install, tmp_path, "-X", "-c", "SELECT nothing")
    assert (failed.returncode, "nothing" in failed.stderr) == (1, True)
    codes = [event["details"]["exit_code"] for event in audit(install, "database.psql")]
    assert codes == [1, 0]


@pytest.mark.process
def test_missing_psql_is_named(install: DoctorInstall, tmp_path: Path) -> None:
    result = flask_psql(install, tmp_path, "-l", PARLEY_POSTGRES_BIN=os.fspath(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert "psql is not installed here: install the package postgresql-client" in result.stderr
