"""Processes killed at random moments under a load of people chatting; then PostgreSQL is asked what is left.

What is random is only when; what must be true afterwards is always the same.
"""

import contextlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from ops.embedded.leftovers import wait_ended
from tests.factories import make_account
from tests.faults.chatters import Chatter
from tests.faults.ledger import broken_promises, complaints, running_in
from tests.faults.rig import SECONDS, Rig, application, own_postgres, postmaster, until

KILLS = ["worker"] * 10 + ["backends"] * 7 + ["arbiter"] + ["postmaster"] * 2
CHATTERS = 6
PAUSE = (0.0, 0.4)  # seconds


def _kill_worker(rig: Rig, engine: Engine, home: Path, dice: random.Random) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        dice.choice(rig.workers()).kill()


def _kill_backends(rig: Rig, engine: Engine, home: Path, dice: random.Random) -> None:
    query = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE application_name = 'parley' AND (random() < :share)"""
    with contextlib.suppress(DBAPIError), engine.connect() as connection:
        connection.execute(text(query), {"share": dice.choice([0.3, 1])})


def _kill_arbiter(rig: Rig, engine: Engine, home: Path, dice: random.Random) -> None:
    orphans = rig.workers()
    rig.web.kill()
    assert not wait_ended([rig.web, *orphans], SECONDS)  # each holds the port
    rig.start_web()


def _kill_postmaster(rig: Rig, engine: Engine, home: Path, dice: random.Random) -> None:
    head = until(lambda: postmaster(home), "the postmaster")
    head.kill()
    until(lambda: (found := postmaster(home)) and found.pid != head.pid, "another postmaster")


KILLERS: dict[str, Callable[[Rig, Engine, Path, random.Random], None]] = {
    "worker": _kill_worker,
    "backends": _kill_backends,
    "arbiter": _kill_arbiter,
    "postmaster": _kill_postmaster,
}


def await_answers(chatters: Sequence[Chatter]) -> None:
    """Wait until somebody gets an answer, so that what is killed next is at work."""
    before = sum(chatter.answered for chatter in chatters)
    until(lambda: sum(chatter.answered for chatter in chatters) > before, "an answer after a kill")


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_nothing_acknowledged_is_lost_or_doubled_whatever_is_killed(settings: Settings, tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED", random.randrange(2**32)))  # shown below; the moments cannot be repeated
    kills = KILLS * int(os.environ.get("KILL_ROUNDS", "1"))
    dice = random.Random(seed)
    dice.shuffle(kills)
    with own_postgres() as (database_url, home), application(settings, database_url) as (flask_app, engine):
        rig = Rig(tmp_path, database_url, CHAT_STALE_SECONDS="3", LOG_LEVEL="WARNING")
        try:
            rig.start_upstream("echo(pause=0.1)")
            rig.start_web()
            stopping = threading.Event()
            accounts = [make_account(flask_app, engine, name=f"user{number}") for number in range(CHATTERS)]
            chatters = [Chatter(rig.url, account, stopping, seed + n) for n, account in enumerate(accounts)]
            for chatter in chatters:
                chatter.start()
            for kind in kills:
                await_answers(chatters)
                time.sleep(dice.uniform(*PAUSE))  # a random moment is the point
                KILLERS[kind](rig, engine, home, dice)
            until(lambda: rig.health() == 200, "a healthy server after the last kill")
            stopping.set()
            for chatter in chatters:
                chatter.join(SECONDS)
                assert not chatter.is_alive(), "a message was never answered"
            everything = [said for chatter in chatters for said in chatter.said]
            known = [conversation for chatter in chatters for conversation in chatter.conversations]
            statuses = Counter(status for said in everything for status in said.statuses)
            figures = f"{Counter(kills)}; {len(everything)} messages, answers by status {dict(statuses)}"
            print(f"seed {seed}: {figures}")  # noqa: T201  # shown beside a failure
            assert [line for chatter in chatters for line in chatter.unexpected] == []
            assert [said for said in everything if said.answer is None] == []
            assert broken_promises(engine, everything) == []
            assert complaints(engine) == {}
            assert running_in(engine, known) == []
            assert statuses[200] > len(kills)
        finally:
            rig.stop()
            if os.environ.get("KILL_LOG"):
                Path(os.environ["KILL_LOG"]).write_bytes(rig.log.read_bytes())
