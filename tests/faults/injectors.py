"""The faults of a campaign. Each function causes one fault of the running testbed when it is called."""

import contextlib
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ops.embedded.leftovers import wait_ended
from tests.faults.live_server import MAX_WAIT_SECONDS, LiveServer
from tests.faults.testbed import STALE_SECONDS, Testbed

PARLEY_BACKENDS = "FROM pg_stat_activity WHERE application_name = 'parley'"


@dataclass(frozen=True)
class Fault:
    """One kind of fault, and how often it is injected.

    `weight` is its frequency relative to the others. `cooldown` is the number of seconds between two faults of one
    `group`, because a keeper stops restarting a server that ends too often.
    """

    inject: Callable[[Testbed, random.Random], None]
    weight: int = 1
    cooldown: float = 0.0
    group: str = ""


def _choose_web_server(testbed: Testbed, rng: random.Random) -> LiveServer:
    return rng.choice(testbed.web_servers)


def kill_web_worker(testbed: Testbed, rng: random.Random) -> None:
    """Kill one gunicorn worker."""
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        rng.choice(_choose_web_server(testbed, rng).workers()).kill()


def kill_arbiter(testbed: Testbed, rng: random.Random) -> None:
    """Kill a gunicorn arbiter and start the server again."""
    web = _choose_web_server(testbed, rng)
    orphans = web.workers()
    web.arbiter.kill()
    assert not wait_ended([web.arbiter, *orphans], MAX_WAIT_SECONDS)  # each holds the port
    web.launch()
    web.wait_for_health()


def freeze_web_worker(testbed: Testbed, rng: random.Random) -> None:
    """Suspend a worker until its turns are stale; another process takes them over before it resumes."""
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        worker = rng.choice(_choose_web_server(testbed, rng).workers())
        worker.suspend()
        testbed.resume_later(STALE_SECONDS + rng.uniform(0, 2), worker)


def kill_celery_worker(testbed: Testbed, rng: random.Random) -> None:
    """Kill the Celery worker and start another one."""
    testbed.jobs["worker"].kill()
    testbed.start_job("worker")


def kill_pool_process(testbed: Testbed, rng: random.Random) -> None:
    """Kill one process of the Celery worker's pool."""
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        rng.choice(testbed.jobs["worker"].children()).kill()


def kill_beat(testbed: Testbed, rng: random.Random) -> None:
    """Kill beat and start another one."""
    testbed.jobs["beat"].kill()
    testbed.start_job("beat")


def kill_archiver(testbed: Testbed, rng: random.Random) -> None:
    """Kill the process that archives and start another one."""
    testbed.kill_archiver()
    testbed.start_archiver()


def kill_backend(testbed: Testbed, rng: random.Random) -> None:
    """Kill one PostgreSQL backend with SIGKILL. PostgreSQL then ends all of them and runs crash recovery."""
    with contextlib.suppress(DBAPIError, psutil.NoSuchProcess), testbed.engine.connect() as connection:
        pids = list(connection.execute(text(f"SELECT pid {PARLEY_BACKENDS}")).scalars())
        if pids:
            psutil.Process(rng.choice(pids)).kill()


def terminate_connections(testbed: Testbed, rng: random.Random) -> None:
    """Terminate some or all connections from PostgreSQL's side."""
    query = text(f"SELECT count(pg_terminate_backend(pid)) {PARLEY_BACKENDS} AND random() < :share")
    with contextlib.suppress(DBAPIError), testbed.engine.connect() as connection:
        connection.execute(query, {"share": rng.choice([0.3, 1])})


def kill_postmaster(testbed: Testbed, rng: random.Random) -> None:
    """Kill the postmaster and wait until the keeper has replaced it."""
    if process := testbed.main_process("postgres"):
        process.kill()
        testbed.wait_for_restart("postgres", process)


def restart_postgres(testbed: Testbed, rng: random.Random) -> None:
    """Restart PostgreSQL in its fast mode, as an operator does: it disconnects clients and writes everything."""
    if process := testbed.main_process("postgres"):
        process.send_signal(signal.SIGINT)
        testbed.wait_for_restart("postgres", process)


def make_read_only(testbed: Testbed, rng: random.Random) -> None:
    """Make the database read-only for up to a second, as after a failover."""
    try:
        _alter_database(testbed, "SET default_transaction_read_only = on")
        time.sleep(rng.uniform(0.2, 1.0))
    finally:
        _alter_database(testbed, "RESET default_transaction_read_only")


def _alter_database(testbed: Testbed, change: str) -> None:
    with testbed.maintenance_connection() as connection:
        connection.execute(text(f"ALTER DATABASE parley {change}"))
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {PARLEY_BACKENDS}"))


def kill_redis(testbed: Testbed, rng: random.Random) -> None:
    """Kill Redis and wait until the keeper has replaced it."""
    if process := testbed.main_process("redis"):
        process.kill()
        testbed.wait_for_restart("redis", process)


def freeze_redis(testbed: Testbed, rng: random.Random) -> None:
    """Suspend Redis for up to 4 s: it keeps its connections and does not reply."""
    if process := testbed.main_process("redis"):
        process.suspend()
        testbed.resume_later(rng.uniform(0.5, 4), process)


def drop_connections(testbed: Testbed, rng: random.Random) -> None:
    """Close all proxied connections to the database."""
    testbed.proxy.drop_connections()


def cut_database(testbed: Testbed, rng: random.Random) -> None:
    """Refuse proxied connections to the database for up to 0.8 s."""
    testbed.proxy.cut()
    time.sleep(rng.uniform(0.1, 0.8))
    testbed.proxy.repair()


def black_hole(testbed: Testbed, rng: random.Random) -> None:
    """Accept proxied connections to the database without any reply for up to 2.5 s."""
    testbed.proxy.black_hole()
    time.sleep(rng.uniform(0.2, 2.5))
    testbed.proxy.drop_connections()
    testbed.proxy.repair()


def lose_reply(testbed: Testbed, rng: random.Random) -> None:
    """Let PostgreSQL run the next such statement, and drop its reply."""
    statement = rng.choice([b"turns.begin", b"turns.finish", b"turns.begin_retry", b"turns.close_stale"])
    testbed.proxy.drop_reply_to(statement)


def cut_provider(testbed: Testbed, rng: random.Random) -> None:
    """Close all connections to the provider in the middle of their answers."""
    testbed.provider_proxy.drop_connections()


def freeze_provider(testbed: Testbed, rng: random.Random) -> None:
    """Suspend the provider for up to 4 s: it keeps its connections and sends nothing."""
    process = testbed.web_servers[0].upstream
    process.suspend()
    testbed.resume_later(rng.uniform(0.5, 4), process)


FAULTS: dict[str, Fault] = {
    "web worker killed": Fault(kill_web_worker, weight=9),
    "arbiter killed": Fault(kill_arbiter, weight=2),
    "web worker frozen": Fault(freeze_web_worker, weight=2),
    "Celery worker killed": Fault(kill_celery_worker, weight=2),
    "pool process killed": Fault(kill_pool_process, weight=4),
    "beat killed": Fault(kill_beat),
    "archiver killed": Fault(kill_archiver, weight=3),
    "backend killed": Fault(kill_backend, weight=5),
    "backends terminated": Fault(terminate_connections, weight=5),
    "postmaster killed": Fault(kill_postmaster, weight=2, cooldown=21, group="postgres"),
    "PostgreSQL restarted": Fault(restart_postgres, cooldown=21, group="postgres"),
    "PostgreSQL read-only": Fault(make_read_only, weight=2),
    "Redis killed": Fault(kill_redis, weight=2, cooldown=21, group="redis"),
    "Redis frozen": Fault(freeze_redis, weight=2),
    "connections closed": Fault(drop_connections, weight=4),
    "database unreachable": Fault(cut_database, weight=2),
    "black hole": Fault(black_hole, weight=2),
    "reply lost": Fault(lose_reply, weight=5),
    "provider cut off": Fault(cut_provider, weight=4),
    "provider frozen": Fault(freeze_provider, weight=2),
}
