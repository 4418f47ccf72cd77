"""Killed at any point, the archival and its undo leave every message in exactly one place."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine

from app.config import Settings
from ops.archive.verify import verify
from tests.bundling import UNUSUAL_MESSAGES, make_idle, numbered_messages, stored_messages
from tests.factories import LoggedInUser
from tests.ops.archive.conftest import Execute

PROJECT = Path(__file__).parents[3]
CONVERSATIONS = 60
KILLS = 12  # of the archival, and as many of its undo
KILLED = -signal.SIGKILL
LONGEST = 0.25  # seconds that one may live

# By SQL alone: conversations whose messages are not all in the one place that the conversation names.
MISPLACED = """
SELECT c.id, c.storage, c.message_count, count(m.position) AS live, a.message_count AS bundled
  FROM conversations c
  LEFT JOIN messages m ON m.user_id = c.user_id AND m.conversation_id = c.id
  LEFT JOIN conversation_archives a ON a.user_id = c.user_id AND a.conversation_id = c.id
 GROUP BY c.user_id, c.id, a.message_count
HAVING NOT CASE c.storage WHEN 'live' THEN count(m.position) = c.message_count AND a.message_count IS NULL
                          ELSE count(m.position) = 0 AND a.message_count = c.message_count END"""


class KillHarness:
    """A running `kill_harness.py`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    def run(self, command: str, seconds: float | None = None) -> int:
        """Run the command in a child that is killed after that time; return its exit code."""
        self._in.write(f"{'-' if seconds is None else seconds} {command}\n")
        self._in.flush()
        return int(self._out.readline())


@pytest.fixture
def harness(settings: Settings) -> Iterator[KillHarness]:
    environment = {**os.environ, "DATABASE_URL": str(settings.database.url), "JWT_SECRET_KEY": "x" * 32}
    command = [sys.executable, "-m", "tests.ops.archive.kill_harness"]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, **pipes) as process:
        yield KillHarness(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.process
def test_kill_at_any_point_leaves_every_message_in_one_place(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute, harness: KillHarness
) -> None:
    conversations = [
        make_idle(engine, user, UNUSUAL_MESSAGES if number % 10 == 0 else numbered_messages(25))
        for number in range(CONVERSATIONS)
    ]
    before = [stored_messages(engine, conversation) for conversation in conversations]
    dice = random.Random(4711)
    killed = 0
    states = set()
    for _ in range(KILLS):
        killed += harness.run("archive", dice.uniform(0.0, LONGEST)) == KILLED
        assert execute(MISPLACED) == []
        states.add(execute("SELECT count(*) FROM conversation_archives")[0][0])
    assert killed > 0, (killed, states)
    assert harness.run("archive") == 0
    assert execute("SELECT storage, count(*) FROM conversations GROUP BY 1") == [("bundled", CONVERSATIONS)]
    # One run, resumed as often as it was killed, and its counts are true.
    [run] = execute("SELECT * FROM archive_runs")
    assert (run.state, run.conversations, run.examined) == ("completed", CONVERSATIONS, CONVERSATIONS)
    assert run.messages == sum(row[0] for row in execute("SELECT message_count FROM conversation_archives"))
    for _ in range(KILLS):
        killed += harness.run(f"restore {run.id}", dice.uniform(0.0, LONGEST)) == KILLED
        assert execute(MISPLACED) == []
        with flask_app.app_context():
            assert verify().damaged == 0
    assert harness.run(f"restore {run.id}") == 0
    assert execute("SELECT restored FROM archive_runs") == [(CONVERSATIONS,)]
    assert [stored_messages(engine, conversation) for conversation in conversations] == before
    assert len(states) > 1 or killed < KILLS  # it got on between the kills
