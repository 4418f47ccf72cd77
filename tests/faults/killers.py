"""What can happen to the platform. Each function makes one fault for real, at the moment it is called."""

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
from tests.faults.rig import SECONDS, Rig
from tests.faults.world import STALE_SECONDS, World

OURS = "FROM pg_stat_activity WHERE application_name = 'parley'"


@dataclass(frozen=True)
class Fault:
    """One kind. `weight` is how often it comes among the others; `rest` are seconds until it may come again, because a
    keeper gives up a server that dies too often. Those of one `family` rest together.
    """

    make: Callable[[World, random.Random], None]
    weight: int = 1
    rest: float = 0.0
    family: str = ""


def _web(world: World, dice: random.Random) -> Rig:
    return dice.choice(world.webs)


def web_worker(world: World, dice: random.Random) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        dice.choice(_web(world, dice).workers()).kill()


def arbiter(world: World, dice: random.Random) -> None:
    web = _web(world, dice)
    orphans = web.workers()
    web.web.kill()
    assert not wait_ended([web.web, *orphans], SECONDS)  # each holds the port
    web.launch()
    web.wait()


def frozen_worker(world: World, dice: random.Random) -> None:
    """Long enough for others to take its turns for lost; then it goes on, and is too late."""
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        worker = dice.choice(_web(world, dice).workers())
        worker.suspend()
        world.later(STALE_SECONDS + dice.uniform(0, 2), worker)


def celery_worker(world: World, dice: random.Random) -> None:
    world.jobs["worker"].kill()
    world.start_job("worker")


def pool_process(world: World, dice: random.Random) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        dice.choice(world.jobs["worker"].children()).kill()


def beat(world: World, dice: random.Random) -> None:
    world.jobs["beat"].kill()
    world.start_job("beat")


def archiver(world: World, dice: random.Random) -> None:
    world.end_archiver()
    world.start_archiver()


def backend(world: World, dice: random.Random) -> None:
    """kill -9 of one: PostgreSQL then ends all of them, and recovers."""
    with contextlib.suppress(DBAPIError, psutil.NoSuchProcess), world.engine.connect() as connection:
        pids = list(connection.execute(text(f"SELECT pid {OURS}")).scalars())
        if pids:
            psutil.Process(dice.choice(pids)).kill()


def connections(world: World, dice: random.Random) -> None:
    """Some or all of them are ended by the server."""
    query = text(f"SELECT count(pg_terminate_backend(pid)) {OURS} AND random() < :share")
    with contextlib.suppress(DBAPIError), world.engine.connect() as connection:
        connection.execute(query, {"share": dice.choice([0.3, 1])})


def postmaster(world: World, dice: random.Random) -> None:
    if head := world.head("postgres"):
        head.kill()
        world.until_another("postgres", head)


def restart(world: World, dice: random.Random) -> None:
    """As an operator restarts it: clients are cut off, everything is written."""
    if head := world.head("postgres"):
        head.send_signal(signal.SIGINT)
        world.until_another("postgres", head)


def read_only(world: World, dice: random.Random) -> None:
    """As after a failover, for a while."""
    try:
        _set_default(world, "SET default_transaction_read_only = on")
        time.sleep(dice.uniform(0.2, 1.0))
    finally:
        _set_default(world, "RESET default_transaction_read_only")


def _set_default(world: World, change: str) -> None:
    with world.elsewhere() as connection:
        connection.execute(text(f"ALTER DATABASE parley {change}"))
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {OURS}"))


def redis(world: World, dice: random.Random) -> None:
    if head := world.head("redis"):
        head.kill()
        world.until_another("redis", head)


def redis_stopped(world: World, dice: random.Random) -> None:
    """It holds its connections and says nothing."""
    if head := world.head("redis"):
        head.suspend()
        world.later(dice.uniform(0.5, 4), head)


def sockets_cut(world: World, dice: random.Random) -> None:
    world.proxy.drop()


def wire_away(world: World, dice: random.Random) -> None:
    """Nobody listens any more, for a while."""
    world.proxy.cut()
    time.sleep(dice.uniform(0.1, 0.8))
    world.proxy.mend()


def black_hole(world: World, dice: random.Random) -> None:
    """The network swallows everything, for a while."""
    world.proxy.silence()
    time.sleep(dice.uniform(0.2, 2.5))
    world.proxy.drop()
    world.proxy.mend()


def reply_lost(world: World, dice: random.Random) -> None:
    """The next such statement is done, and nobody is told."""
    world.proxy.cut_after(dice.choice([b"turns.begin", b"turns.finish", b"turns.begin_again", b"turns.close_stale"]))


def provider_cut(world: World, dice: random.Random) -> None:
    """All its answers break off where they are."""
    world.provider_wire.drop()


def provider_silent(world: World, dice: random.Random) -> None:
    """It holds its connections and says nothing."""
    head = world.webs[0].upstream
    head.suspend()
    world.later(dice.uniform(0.5, 4), head)


FAULTS: dict[str, Fault] = {
    "web worker": Fault(web_worker, weight=9),
    "arbiter": Fault(arbiter, weight=2),
    "web worker frozen": Fault(frozen_worker, weight=2),
    "celery worker": Fault(celery_worker, weight=2),
    "pool process": Fault(pool_process, weight=4),
    "beat": Fault(beat),
    "archiver": Fault(archiver, weight=3),
    "backend": Fault(backend, weight=5),
    "connections ended": Fault(connections, weight=5),
    "postmaster": Fault(postmaster, weight=2, rest=21, family="postgres"),
    "PostgreSQL restarted": Fault(restart, rest=21, family="postgres"),
    "PostgreSQL read-only": Fault(read_only, weight=2),
    "redis": Fault(redis, weight=2, rest=21, family="redis"),
    "redis stopped": Fault(redis_stopped, weight=2),
    "sockets cut": Fault(sockets_cut, weight=4),
    "database away": Fault(wire_away, weight=2),
    "black hole": Fault(black_hole, weight=2),
    "reply lost": Fault(reply_lost, weight=5),
    "provider cut off": Fault(provider_cut, weight=4),
    "provider silent": Fault(provider_silent, weight=2),
}
