"""Lookups of the database's host name: they block no other greenlet and end within the connect timeout."""

import json
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import make_url

from app.db_dns import resolve_hosts
from tests.faults.live_server import PROJECT


def connect(url: str, host: str, seconds: float) -> dict[str, Any]:
    """Connect to `url` at `host` in a gevent process and return its outcome and switches."""
    named = make_url(url).set(host=host).render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.gevent_connect", named, str(seconds)],
        cwd=PROJECT,
        capture_output=True,
        check=True,
        timeout=60,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.process
def test_host_name_under_gevent_is_resolved(database_url: str) -> None:
    assert connect(database_url, "db.test", 20)["outcome"] == "connected"


@pytest.mark.process
def test_silent_name_server_fails_within_connect_timeout_and_blocks_no_greenlet(database_url: str) -> None:
    result = connect(database_url, "slow.test", 0.5)
    assert result["outcome"] == "no connection to the database within 0.5 seconds"
    assert result["switches"] > 5, "no other greenlet ran during the lookup"


@pytest.mark.process
def test_unknown_host_name_is_named_in_the_error(database_url: str) -> None:
    assert "could not resolve the database host nowhere.test" in connect(database_url, "nowhere.test", 20)["outcome"]


@pytest.mark.parametrize("host", ["", "127.0.0.1", "::1", "/var/run/postgresql", "127.0.0.1,/tmp"])
def test_address_or_socket_path_is_not_looked_up(host: str) -> None:
    assert resolve_hosts({"host": host, "port": 5432}) == {"host": host, "port": 5432}


def test_several_hosts_keep_their_ports() -> None:
    resolved = resolve_hosts({"host": "10.0.0.1,localhost", "port": "1,2", "user": "u"})
    rows = list(zip(*(resolved[name].split(",") for name in ("host", "hostaddr", "port")), strict=True))
    assert rows[0] == ("10.0.0.1", "", "1")
    assert ("localhost", "127.0.0.1", "2") in rows[1:]
    assert {(name, port) for name, _, port in rows[1:]} == {("localhost", "2")}
    assert resolved["user"] == "u"
