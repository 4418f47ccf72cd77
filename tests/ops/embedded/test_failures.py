"""Problems of the machine or a folder: one line says what to do, and no foreign file is changed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ops.embedded import EmbeddedError, binaries, jwt_secret, lease_postgres, lease_redis, ports
from ops.embedded.server import minimal_environment
from ops.embedded.site import open_site
from tests.ops.conftest import PROJECT, SECONDS, run_as_ordinary_user
from tests.ops.installation import run_sql
from tests.processes import reaped
from tests.waiting import wait_until

pytestmark = pytest.mark.process


REFUSED = """
import sys
from pathlib import Path
from ops.embedded import EmbeddedError, lease_postgres

try:
    lease_postgres(Path(sys.argv[1]))
except EmbeddedError as error:
    print(error.detail)
"""


def lease_error(home: Path) -> str:
    """Return the one-line error of leasing PostgreSQL in `home`."""
    with pytest.raises(EmbeddedError) as caught:
        lease_postgres(home, durable=False)
    assert "\n" not in caught.value.detail
    return caught.value.detail


@pytest.fixture
def stopped(home: Path) -> Path:
    """Return a home whose PostgreSQL was started once and stopped."""
    lease_postgres(home, durable=False).close()
    return home


def test_foreign_data_folder_is_refused_and_not_changed(home: Path) -> None:
    precious = home / "postgres" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("months of work")
    line = lease_error(home)
    assert f"{home}/postgres is not empty and not a data folder of PostgreSQL" in line
    assert "PARLEY_HOME" in line
    assert [path.name for path in precious.parent.iterdir()] == ["thesis.txt"]


def test_data_of_a_missing_version_names_it(home: Path) -> None:
    version = home / "postgres" / "PG_VERSION"
    version.parent.mkdir(parents=True)
    version.write_text("12\n")
    line = lease_error(home)
    assert "was created by PostgreSQL 12, which is not installed" in line
    assert "install PostgreSQL 12" in line


def test_damaged_data_shows_the_log_line(stopped: Path) -> None:
    control = stopped / "postgres" / "global" / "pg_control"
    os.truncate(control, 100)
    line = lease_error(stopped)
    assert "FATAL" in line or "PANIC" in line
    assert str(stopped / "log" / "postgres.log") in line


def test_wrong_password_file_is_named(stopped: Path) -> None:
    (stopped / "keys" / "postgres_password").write_text("0" * 64)
    assert f"than the one in {stopped}/keys/postgres_password: restore that file" in lease_error(stopped)


def test_damaged_key_is_refused_and_not_replaced(home: Path) -> None:
    jwt_secret(home)
    key = home / "keys" / "jwt_secret"
    key.write_text("short")
    with pytest.raises(EmbeddedError, match="jwt_secret is damaged"):
        jwt_secret(home)
    assert key.read_text() == "short"


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_taken_port_is_replaced(home: Path, name: str) -> None:
    lease = {"postgres": lease_postgres, "redis": lease_redis}[name]
    first = lease(home, durable=False)
    first.close()
    with socket.create_server(("127.0.0.1", first.port)), lease(home, durable=False) as second:
        assert second.port != first.port


def test_stale_lock_file_with_a_reused_pid_is_removed(stopped: Path) -> None:
    """After a restart of the machine, another process can have that pid; PostgreSQL would not start."""
    site = open_site(stopped)
    bystander = subprocess.Popen(["sleep", "600"], **site.run_as)
    try:
        lock_file = stopped / "postgres" / "postmaster.pid"
        lock_file.write_text(f"{bystander.pid}\n{stopped}/postgres\n1\n5432\n\n127.0.0.1\n 1 1\nready\n")
        site.give_to_server(lock_file)
        with lease_postgres(stopped, durable=False) as lease:
            assert run_sql(lease.url, "SELECT 1") == [(1,)]
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_foreign_postgres_on_the_data_folder_is_refused(stopped: Path) -> None:
    site = open_site(stopped)
    program = binaries.find_postgres(site, None).folder / "postgres"
    other = subprocess.Popen(
        [str(program), "-D", str(stopped / "postgres"), "-p", str(ports.choose_port(0))],
        cwd="/",
        env=minimal_environment(),
        stderr=subprocess.DEVNULL,
        **site.run_as,
    )
    lock_file = stopped / "postgres" / "postmaster.pid"
    try:
        wait_until(lambda: lock_file.exists() or other.poll() is not None)
        assert other.poll() is None
        assert f"(pid {other.pid}) uses {stopped}/postgres: stop it first" in lease_error(stopped)
        assert other.poll() is None
    finally:
        other.send_signal(signal.SIGINT)
        other.wait(SECONDS)


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Simulate a machine without PostgreSQL and Redis; return the folder that is its PATH."""
    monkeypatch.setattr(binaries, "POSTGRES_WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "REDIS_WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "FOLDER_PATTERNS", ())
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_missing_programs_say_what_to_install(home: Path, no_programs: Path) -> None:
    site = open_site(home)
    with pytest.raises(EmbeddedError, match=r"no PostgreSQL 15 or newer .* \(none found\).*or set DATABASE_URL"):
        binaries.find_postgres(site, None)
    with pytest.raises(EmbeddedError, match=r"no Redis .* \(none found\).*or set CELERY_BROKER_URL"):
        binaries.find_redis(site)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "echo 'postgres: error while loading shared libraries: libfoo.so.1: cannot open' >&2; exit 127",
            "libfoo.so.1",
        ),
        ("echo 'postgres (PostgreSQL) 14.9'", "holds PostgreSQL 14.9, which is too old"),
        ("echo hello", "does not print its version, but 'hello'"),
    ],
)
def test_unusable_programs_are_named(
    home: Path, no_programs: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    site = open_site(home)
    folder = home.parent  # every user can enter it
    (folder / "postgres").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "initdb").touch()
    (folder / "postgres").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EmbeddedError) as caught:
        binaries.find_postgres(site, None)
    assert message in caught.value.detail


def test_unwritable_folder_is_named(home: Path) -> None:
    """Runs as an ordinary user, because root can write to every folder."""
    home.parent.chmod(0o555)
    line = run_as_ordinary_user(REFUSED, home).stdout
    assert line.count("\n") == 1
    assert line.startswith(f"{home}: Permission denied")
    assert "set PARLEY_HOME" in line


def test_interrupted_first_start_is_repeated(home: Path) -> None:
    debris = home / "postgres.new" / "PG_VERSION"
    debris.parent.mkdir(parents=True)
    debris.write_text("18\n")
    with lease_postgres(home, durable=False) as lease:
        assert run_sql(lease.url, "SELECT 1") == [(1,)]
    assert not debris.exists()


def test_killed_first_start_is_repeated(home: Path) -> None:
    """The starting process is killed during the start; the server stops, and the next lease starts one."""
    script = "import sys; from pathlib import Path; from ops.embedded import *; lease_postgres(Path(sys.argv[1]))"
    starter = subprocess.Popen([sys.executable, "-c", script, str(home)], cwd=PROJECT)
    with reaped(starter):
        wait_until(lambda: (home / "postgres.new").exists() or starter.poll() is not None)
    with lease_postgres(home, durable=False) as lease:
        assert run_sql(lease.url, "SELECT 1") == [(1,)]
