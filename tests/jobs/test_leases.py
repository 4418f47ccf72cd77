"""Leases of exclusive operations: one holder at a time, also after a kill and after a change of the clock."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.ids import new_id
from ops.errors import AlreadyRunning, LeaseLost
from ops.runs import leases
from ops.runs.leases import exclusive_lease, is_leased, try_lease
from tests.faults.live_server import PROJECT
from tests.processes import reaped
from tests.waiting import wait_until

# Takes the lease `argv[2]` in the database `argv[1]`, says so, and holds it until it is killed.
HOLDER = """
import sys, time
from app.core import create_core_app
from ops.runs.leases import exclusive_lease
from pathlib import Path
from tests.settings import make_settings
from ops.runs import leases
leases.SECONDS, leases.RENEWAL_SECONDS = 3.0, 0.3
with create_core_app(make_settings(sys.argv[1], Path("/nonexistent"))).app_context():
    with exclusive_lease(sys.argv[2], "it is held"):
        print("held", flush=True)
        time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _context(flask_app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in the application, with short leases."""
    monkeypatch.setattr(leases, "SECONDS", 3.0)
    monkeypatch.setattr(leases, "RENEWAL_SECONDS", 0.3)
    with flask_app.app_context():
        yield


@pytest.fixture
def name() -> str:
    return f"test.{new_id()}"


def test_second_holder_is_refused_and_first_is_not_disturbed(name: str) -> None:
    with exclusive_lease(name, "it is held") as lease:
        with pytest.raises(AlreadyRunning, match="it is held"), exclusive_lease(name, "it is held"):
            pass
        lease.require()
        assert is_leased(name)
    assert not is_leased(name)


def test_lease_outlives_its_length_while_it_is_renewed(name: str) -> None:
    with exclusive_lease(name, "it is held") as lease:
        time.sleep(2 * leases.SECONDS)
        lease.require()
        with try_lease(name) as other:
            assert other is None


def test_one_of_many_takes_the_lease(name: str, flask_app: Flask) -> None:
    barrier, holders, end = threading.Barrier(6), list[bool](), threading.Event()

    def attempt() -> None:
        with flask_app.app_context():
            barrier.wait(30)
            with try_lease(name) as lease:
                holders.append(lease is not None)
                if lease is not None:
                    end.wait(60)

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(holders) == 6)
    end.set()
    for thread in threads:
        thread.join()
    assert sorted(holders) == [False] * 5 + [True]


def test_lease_of_killed_process_is_taken_when_it_ends(name: str, database_url: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, database_url, name], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    with reaped(holder):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with try_lease(name) as other:
            assert other is None
        holder.kill()
        holder.wait()
        with exclusive_lease(name, "it is held") as lease:
            lease.require()


def test_lost_lease_is_noticed_and_left_to_its_new_holder(name: str, engine: Engine) -> None:
    other = new_id()
    with exclusive_lease(name, "it is held") as lease:
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE leases SET holder = :other WHERE name = :name"), {"other": other, "name": name}
            )
        wait_until(lambda: not lease.is_held)
        with pytest.raises(LeaseLost, match=name):
            lease.require()
    with engine.begin() as connection:
        kept = connection.execute(text("DELETE FROM leases WHERE name = :name RETURNING holder"), {"name": name})
        assert kept.scalar_one() == other


def test_lease_from_before_clock_was_set_back_is_taken(name: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO leases (name, holder, expires_at) VALUES (:name, :holder, now() + interval '1 hour')"),
            {"name": name, "holder": new_id()},
        )
    with exclusive_lease(name, "it is held") as lease:
        lease.require()
