"""Leases of embedded servers: started when needed, shared, stopped with the last lease."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.embedded import jwt_secret, lease_postgres, lease_redis
from tests.ops.conftest import (
    PROJECT,
    SECONDS,
    LeaseProcess,
    keeper_process,
    server_process,
    wait_gone,
)
from tests.ops.installation import run_sql
from tests.processes import reaped

pytestmark = pytest.mark.process
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals children whose parent ended")


def test_postgres_has_the_required_settings_and_extensions(home: Path) -> None:
    with lease_postgres(home, durable=False, max_connections=50) as lease:
        assert lease.port < 32768
        settings = _settings(run_sql(lease.url, "SELECT name, setting FROM pg_settings"))
        assert settings["server_version_num"] >= "150000"
        assert settings["data_checksums"] == "on"
        assert settings["listen_addresses"] == "127.0.0.1"
        assert settings["unix_socket_directories"] == ""
        assert settings["max_connections"] == "50"
        assert settings["server_encoding"] == "UTF8"
        assert run_sql(lease.url, "SELECT upper('é'), current_database(), current_user") == [("É", "parley", "parley")]
        installed = {name for (name,) in run_sql(lease.url, "SELECT extname FROM pg_extension")}
        assert installed >= {"pg_stat_statements", "pgstattuple", "amcheck"}
        run_sql(lease.url, "CREATE DATABASE another")
        assert all(host == "127.0.0.1" for host in _listening(server_process(home)))
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            run_sql(lease.url.replace("parley:", "parley:x"), "SELECT 1")


def test_redis_is_durable_and_requires_a_password(home: Path) -> None:
    with lease_redis(home) as lease:
        assert lease.port < 32768
        client = redis.Redis.from_url(lease.url)
        client.set("kept", "yes")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        client.close()
        stranger = redis.Redis(port=lease.port, retry=Retry(NoBackoff(), 0))
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        stranger.close()
        assert all(host == "127.0.0.1" for host in _listening(server_process(home, "redis")))
    with lease_redis(home) as lease, redis.Redis.from_url(lease.url) as client:
        assert client.get("kept") == b"yes"


def test_secrets_are_private_and_persistent(home: Path) -> None:
    secret = jwt_secret(home)
    assert len(bytes.fromhex(secret)) == 32
    assert jwt_secret(home) == secret
    assert [stat.S_IMODE(file.stat().st_mode) for file in (home / "keys").iterdir()] == [0o600]
    assert stat.S_IMODE((home / "keys").stat().st_mode) == 0o700


def test_two_processes_share_a_server_until_the_last_one_ends(
    home: Path, start_lease: Callable[..., LeaseProcess]
) -> None:
    first, second = start_lease(), start_lease()
    assert first.url == second.url
    server, keeper = server_process(home), keeper_process(home)
    first.close()
    assert run_sql(second.url, "SELECT 1") == [(1,)]
    second.close()  # returns when the server has stopped
    assert not server.is_running()
    wait_gone(keeper)


def test_close_waits_for_the_server_and_can_be_repeated(home: Path) -> None:
    lease = lease_postgres(home, durable=False)
    server = server_process(home)
    lease.close()
    assert not server.is_running()
    lease.close()


def test_killed_user_releases_its_lease(home: Path, start_lease: Callable[..., LeaseProcess]) -> None:
    first, second = start_lease(), start_lease()
    server, keeper = server_process(home), keeper_process(home)
    first.kill()
    assert run_sql(second.url, "SELECT 1") == [(1,)]
    second.kill()
    wait_gone(server, keeper)


def test_forked_child_holds_no_lease(home: Path, start_lease: Callable[..., LeaseProcess]) -> None:
    script = """
import json, os, sys, time
from pathlib import Path
from ops import embedded

lease = embedded.lease_postgres(Path(sys.argv[2]), durable=False)
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, b"x")
    os.close(1)
    time.sleep(600)
os.read(reading, 1)
print(json.dumps({"url": lease.url, "port": lease.port}), flush=True)
sys.stdin.read()
"""
    leaseholder = start_lease(script=script)
    [child] = psutil.Process(leaseholder.process.pid).children()
    server = server_process(home)
    try:
        leaseholder.kill()
        wait_gone(server)
        assert child.is_running()
    finally:
        child.kill()


@linux_only
def test_killed_keeper_stops_its_server_and_a_new_one_starts(
    home: Path, start_lease: Callable[..., LeaseProcess]
) -> None:
    leaseholder = start_lease()
    run_sql(leaseholder.url, "CREATE TABLE kept AS SELECT 42 AS number")
    server = server_process(home)
    keeper_process(home).kill()
    newcomer = start_lease()  # the old server may still be stopping
    wait_gone(server)
    assert run_sql(newcomer.url, "SELECT number FROM kept") == [(42,)]


def test_data_survives_killing_all_processes(home: Path, start_lease: Callable[..., LeaseProcess]) -> None:
    leaseholder, queue = start_lease(), start_lease("redis")
    run_sql(leaseholder.url, "CREATE TABLE kept AS SELECT 42 AS number")
    with redis.Redis.from_url(queue.url) as client:
        client.set("kept", "yes")
    victims = [find(home, name) for find in (keeper_process, server_process) for name in ("postgres", "redis")]
    for victim in victims:
        victim.kill()
    leaseholder.kill()
    queue.kill()
    with lease_postgres(home, durable=False) as lease:
        assert run_sql(lease.url, "SELECT number FROM kept") == [(42,)]
    with lease_redis(home) as lease, redis.Redis.from_url(lease.url) as client:
        assert client.get("kept") == b"yes"


def test_dead_server_is_restarted_at_the_same_port(home: Path) -> None:
    with lease_postgres(home, durable=False) as lease:
        first = server_process(home)
        first.kill()
        wait_gone(first)
        with lease_postgres(home) as again:  # returns when the server answers again
            assert again.url == lease.url
            assert run_sql(lease.url, "SELECT 1") == [(1,)]
        assert server_process(home).pid != first.pid


def test_concurrent_leases_always_get_a_running_server(home: Path) -> None:
    """Starts and stops overlap in every order."""
    script = """
import sys
from pathlib import Path
from ops.embedded import lease_postgres
from tests.ops.installation import run_sql

for _ in range(3):
    with lease_postgres(Path(sys.argv[1]), durable=False) as lease:
        assert run_sql(lease.url, "SELECT 1") == [(1,)]
"""
    users = [subprocess.Popen([sys.executable, "-c", script, str(home)], cwd=PROJECT) for _ in range(4)]
    with reaped(*users):
        assert [user.wait(2 * SECONDS) for user in users] == [0, 0, 0, 0]


def test_two_homes_are_independent(home: Path, start_lease: Callable[..., LeaseProcess]) -> None:
    other = home.with_name("other")
    with lease_postgres(home, durable=False) as lease:
        neighbour = start_lease(at=other)
        assert neighbour.port != lease.port
        neighbour_server = server_process(other)
        run_sql(lease.url, "CREATE TABLE mine AS SELECT 1")
        with pytest.raises(psycopg2.errors.UndefinedTable):
            run_sql(neighbour.url, "SELECT * FROM mine")
        neighbour.kill()
        wait_gone(neighbour_server)
        assert run_sql(lease.url, "SELECT count(*) FROM mine") == [(1,)]


def test_sigterm_of_the_keeper_stops_the_server_cleanly(home: Path, start_lease: Callable[..., LeaseProcess]) -> None:
    leaseholder = start_lease()
    server, keeper = server_process(home), keeper_process(home)
    os.kill(keeper.pid, signal.SIGTERM)
    wait_gone(keeper, server)
    assert "database system is shut down" in (home / "log" / "postgres.log").read_text()
    leaseholder.close()


def _settings(rows: list[tuple[object, ...]]) -> dict[str, str]:
    return {str(name): str(value) for name, value in rows}


def _listening(process: psutil.Process) -> list[str]:
    return [one.laddr.ip for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
