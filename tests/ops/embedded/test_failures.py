"""What can be wrong with a machine or a folder: one line that says what to do, and nothing of anybody's is touched."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ops.embedded import EmbeddedError, binaries, jwt_secret, lease_postgres, lease_redis, ports
from ops.embedded.server import plain_environment
from ops.embedded.site import open_site
from tests.ops.conftest import PROJECT, SECONDS, eventually, query, run_as_ordinary_user
from tests.processes import reaped

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


def refusal(home: Path) -> str:
    """The one line that leasing PostgreSQL in `home` fails with."""
    with pytest.raises(EmbeddedError) as caught:
        lease_postgres(home, durable=False)
    assert "\n" not in caught.value.detail
    return caught.value.detail


@pytest.fixture
def stopped(home: Path) -> Path:
    """A home whose PostgreSQL was started once and stopped."""
    lease_postgres(home, durable=False).close()
    return home


def test_a_foreign_folder_is_left_alone(home: Path) -> None:
    precious = home / "postgres" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("months of work")
    line = refusal(home)
    assert f"{home}/postgres is not a data folder of PostgreSQL" in line
    assert "PARLEY_HOME" in line
    assert [path.name for path in precious.parent.iterdir()] == ["thesis.txt"]


def test_data_of_a_version_that_is_not_here(home: Path) -> None:
    version = home / "postgres" / "PG_VERSION"
    version.parent.mkdir(parents=True)
    version.write_text("12\n")
    line = refusal(home)
    assert "was made by PostgreSQL 12, which is not here" in line
    assert "install PostgreSQL 12" in line


def test_damaged_data(stopped: Path) -> None:
    control = stopped / "postgres" / "global" / "pg_control"
    os.truncate(control, 100)
    line = refusal(stopped)
    assert "FATAL" in line or "PANIC" in line
    assert str(stopped / "log" / "postgres.log") in line


def test_a_password_that_is_not_the_one_the_data_was_made_with(stopped: Path) -> None:
    (stopped / "keys" / "postgres_password").write_text("0" * 64)
    assert f"than the one in {stopped}/keys/postgres_password: restore that file" in refusal(stopped)


def test_a_damaged_key_is_not_replaced(home: Path) -> None:
    jwt_secret(home)
    key = home / "keys" / "jwt_secret"
    key.write_text("short")
    with pytest.raises(EmbeddedError, match="jwt_secret is damaged"):
        jwt_secret(home)
    assert key.read_text() == "short"


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_port_that_somebody_else_took(home: Path, name: str) -> None:
    lease = {"postgres": lease_postgres, "redis": lease_redis}[name]
    first = lease(home, durable=False)
    first.close()
    with socket.create_server(("127.0.0.1", first.port)), lease(home, durable=False) as second:
        assert second.port != first.port


def test_a_lock_file_with_the_number_of_another_process(stopped: Path) -> None:
    """After a restart of the machine the number can be anybody's; PostgreSQL itself would not start."""
    site = open_site(stopped)
    bystander = subprocess.Popen(["sleep", "600"], **site.run_as)
    try:
        lock_file = stopped / "postgres" / "postmaster.pid"
        lock_file.write_text(f"{bystander.pid}\n{stopped}/postgres\n1\n5432\n\n127.0.0.1\n 1 1\nready\n")
        site.give_to_server(lock_file)
        with lease_postgres(stopped, durable=False) as lease:
            assert query(lease.url, "SELECT 1") == [(1,)]
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_postgres_that_somebody_else_runs_on_the_folder(stopped: Path) -> None:
    site = open_site(stopped)
    program = binaries.find_postgres(site, None).folder / "postgres"
    other = subprocess.Popen(
        [str(program), "-D", str(stopped / "postgres"), "-p", str(ports.choose(0))],
        cwd="/",
        env=plain_environment(),
        stderr=subprocess.DEVNULL,
        **site.run_as,
    )
    lock_file = stopped / "postgres" / "postmaster.pid"
    try:
        eventually(lambda: lock_file.exists() or other.poll() is not None)
        assert other.poll() is None
        assert f"(pid {other.pid}) uses {stopped}/postgres: stop it first" in refusal(stopped)
        assert other.poll() is None
    finally:
        other.send_signal(signal.SIGINT)
        other.wait(SECONDS)


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which no PostgreSQL and no Redis is installed; the folder returned is its PATH."""
    monkeypatch.setattr(binaries, "POSTGRES_WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "REDIS_WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "ELSEWHERE", ())
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_no_programs(home: Path, no_programs: Path) -> None:
    site = open_site(home)
    with pytest.raises(EmbeddedError, match=r"no PostgreSQL 15 or newer .* \(none found\).*or set DATABASE_URL"):
        binaries.find_postgres(site, None)
    with pytest.raises(EmbeddedError, match=r"no Redis .* \(none found\).*or set CELERY_BROKER_URL"):
        binaries.find_redis(site)


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        (
            "echo 'postgres: error while loading shared libraries: libfoo.so.1: cannot open' >&2; exit 127",
            "libfoo.so.1",
        ),
        ("echo 'postgres (PostgreSQL) 14.9'", "holds PostgreSQL 14.9, which is too old"),
        ("echo hello", "does not say which version it is, but 'hello'"),
    ],
)
def test_programs_that_cannot_be_used(
    home: Path, no_programs: Path, monkeypatch: pytest.MonkeyPatch, says: str, complaint: str
) -> None:
    site = open_site(home)
    folder = home.parent  # one that every user may enter
    (folder / "postgres").write_text(f"#!/bin/sh\n{says}\n")
    (folder / "initdb").touch()
    (folder / "postgres").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EmbeddedError) as caught:
        binaries.find_postgres(site, None)
    assert complaint in caught.value.detail


def test_a_folder_that_may_not_be_written(home: Path) -> None:
    """As an ordinary user, who can make nothing in a folder that is closed to writers."""
    home.parent.chmod(0o555)
    line = run_as_ordinary_user(REFUSED, home).stdout
    assert line.count("\n") == 1
    assert line.startswith(f"{home}: Permission denied")
    assert "set PARLEY_HOME" in line


def test_an_interrupted_first_start_is_done_again(home: Path) -> None:
    debris = home / "postgres.new" / "PG_VERSION"
    debris.parent.mkdir(parents=True)
    debris.write_text("18\n")
    with lease_postgres(home, durable=False) as lease:
        assert query(lease.url, "SELECT 1") == [(1,)]
    assert not debris.exists()


def test_a_killed_first_start_is_done_again(home: Path) -> None:
    """Whoever starts it is killed while the server starts: nobody uses it, so it stops; the next one gets it."""
    script = "import sys; from pathlib import Path; from ops.embedded import *; lease_postgres(Path(sys.argv[1]))"
    starter = subprocess.Popen([sys.executable, "-c", script, str(home)], cwd=PROJECT)
    with reaped(starter):
        eventually(lambda: (home / "postgres.new").exists() or starter.poll() is not None)
    with lease_postgres(home, durable=False) as lease:
        assert query(lease.url, "SELECT 1") == [(1,)]
