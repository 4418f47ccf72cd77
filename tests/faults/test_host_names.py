"""The database's host name: looked up without stopping anybody, and not for longer than a connection may take."""

import json
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import make_url

from app.host_names import looked_up
from tests.faults.rig import PROJECT


def connect(url: str, host: str, seconds: float) -> dict[str, Any]:
    named = make_url(url).set(host=host).render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.gevent_connect", named, str(seconds)],
        cwd=PROJECT,
        capture_output=True,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.process
def test_a_name_is_found_while_others_go_on(database_url: str) -> None:
    assert connect(database_url, "db.test", 20)["came"] == "connected"


@pytest.mark.process
def test_a_name_server_that_is_silent_is_given_up_in_time(database_url: str) -> None:
    found = connect(database_url, "slow.test", 0.5)
    assert found["came"] == "no connection to the database within 0.5 seconds"
    assert found["turns"] > 5, "nobody else had a turn while the name was asked for"


@pytest.mark.process
def test_an_unknown_name_is_said(database_url: str) -> None:
    assert "address of the database's host nowhere.test" in connect(database_url, "nowhere.test", 20)["came"]


@pytest.mark.parametrize("host", ["", "127.0.0.1", "::1", "/var/run/postgresql", "127.0.0.1,/tmp"])
def test_what_needs_no_look_up_stays_as_it_is(host: str) -> None:
    assert looked_up({"host": host, "port": 5432}) == {"host": host, "port": 5432}


def test_each_of_several_hosts_keeps_its_port() -> None:
    found = looked_up({"host": "10.0.0.1,localhost", "port": "1,2", "user": "u"})
    rows = list(zip(*(found[name].split(",") for name in ("host", "hostaddr", "port")), strict=True))
    assert rows[0] == ("10.0.0.1", "", "1")
    assert ("localhost", "127.0.0.1", "2") in rows[1:]
    assert {(name, port) for name, _, port in rows[1:]} == {("localhost", "2")}
    assert found["user"] == "u"
