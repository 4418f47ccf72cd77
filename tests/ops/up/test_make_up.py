"""`make up` from outside: start, the printed commands, stop, and a second start with the same data."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.embedded import ports
from tests.ops.conftest import (
    SECONDS,
    own_environment,
    wait_gone,
)
from tests.ops.up.conftest import Up

pytestmark = pytest.mark.process


@pytest.mark.timeout(300)
def test_up_starts_stops_and_keeps_its_data(up: Callable[..., Up]) -> None:
    port = str(ports.choose_port(0))
    first = up(PORT=port)
    lines = first.wait_until_ready()
    tree = first.tree()
    answers = _run_in_shell(lines)
    conversation = answers["chat"]["conversation"]["id"]
    messages = [message["content"] for message in answers["messages"]["items"]]
    assert messages == ["Hello! What can you do?", answers["chat"]["message"]["content"]]
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(SECONDS) == 0
    wait_gone(*tree)

    second = up(PORT=port)
    second.wait_until_ready()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/conversations/{conversation}/messages",
        headers={"Authorization": f"Bearer {answers['token']}"},  # the signing key is the same
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        assert [message["content"] for message in json.load(response)["items"]] == messages
    if sys.platform == "linux":
        tree = second.tree()
        os.kill(second.process.pid, signal.SIGKILL)
        second.process.wait(SECONDS)
        wait_gone(*tree)


def test_taken_port_is_named(up: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert _failure_line(up(PORT=str(port))) == (
            f"parley: 127.0.0.1:{port} is used by another program: stop it, or choose another port: `make up PORT=8001`"
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"PORT": "abc"}, r"PORT: Input should be a valid integer"),
        ({"HOST": "192.0.2.1"}, r"192\.0\.2\.1:\d+ cannot be used .*set HOST to an address of this machine"),
        ({"HOST": "no such host"}, r"HOST=no such host is not a name or address of this machine"),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/d"}, r"JWT_SECRET_KEY: required with DATABASE_URL"),
        (
            {
                "DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/d",
                "JWT_SECRET_KEY": "x" * 32,
                "CELERY_BROKER_URL": "redis://x",
            },
            r"`flask db upgrade` failed, so nothing was started: .*Connection refused",
        ),
    ],
)
def test_wrong_settings_are_named(up: Callable[..., Up], settings: dict[str, str], message: str) -> None:
    line = _failure_line(up(**{"PORT": str(ports.choose_port(0)), **settings}))
    assert re.match(f"parley: {message}", line), line
    assert "secret" not in line


def test_foreign_data_folder_is_named(up: Callable[..., Up], home: Path) -> None:
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "thesis.txt").write_text("months of work")
    line = _failure_line(up(PORT=str(ports.choose_port(0))))
    assert line.startswith(f"parley: {home}/postgres is not empty and not a data folder of PostgreSQL")


def _failure_line(failed: Up) -> str:
    """Return the one line of a failed start."""
    assert failed.process.wait(SECONDS) == 1
    lines = failed.output.read_text().splitlines()
    errors = [line for line in lines if not re.match("(Creating and starting|Starting|Migrating) ", line)]
    assert len(errors) == 1, lines
    return errors[0]


def _run_in_shell(lines: str) -> dict[str, Any]:
    """Run the printed commands in a shell, and return their output."""
    if not shutil.which("curl"):
        pytest.skip("the lines that `make up` prints need curl")
    script = f"""{lines}
printf '\\n%s\\n' "$TOKEN"
"""
    done = subprocess.run(
        ["sh", "-eu", "-c", script], capture_output=True, text=True, timeout=SECONDS, check=True, env=own_environment()
    )
    chat, messages, token = (line for line in done.stdout.splitlines() if line.strip())
    return {"chat": json.loads(chat), "messages": json.loads(messages), "token": token}
