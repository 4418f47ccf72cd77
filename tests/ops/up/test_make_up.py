"""`make up` from outside: it starts, is used as its own lines say, stops without a trace, and finds its data again."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ops.embedded import ports
from tests.ops.conftest import (
    PROJECT,
    SECONDS,
    eventually,
    keeper_process,
    own_environment,
    server_process,
    wait_gone,
)

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture
def clone(home: Path) -> Path:
    """The project's folder as a fresh clone has it: without the developer's .env and .parley."""
    folder = home.parent / "clone"
    folder.mkdir()
    for name in ("app", "ops", "tasks", "migrations", "wsgi.py", "Procfile", ".venv"):
        (folder / name).symlink_to(PROJECT / name)
    return folder


class Up:
    """A running `python -m ops.up`."""

    def __init__(self, clone: Path, home: Path, **settings: str) -> None:
        self.home = home
        self.output = clone / "output"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.up"],
                cwd=clone,
                env=own_environment(PARLEY_HOME=str(home), WEB_WORKERS="1", **settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def await_ready(self) -> str:
        """Wait until it says where it is, and return the lines that it wants to be pasted."""
        eventually(lambda: "Parley is running" in self.output.read_text() or self.process.poll() is not None)
        found = re.search(r"^URL=.*?(?=^\s*$)", self.output.read_text(), re.MULTILINE | re.DOTALL)
        assert found, self.output.read_text()
        return found.group()

    def tree(self) -> list[psutil.Process]:
        """Everything it started: the processes of the Procfile, the keepers, the servers and theirs."""
        roots = [psutil.Process(self.process.pid)]
        for name in ("postgres", "redis"):
            roots += [keeper_process(self.home, name), server_process(self.home, name)]
        return [process for root in roots for process in (root, *root.children(recursive=True))]


@pytest.fixture
def up(clone: Path, home: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(**settings: str) -> Up:
        started.append(Up(clone, home, **settings))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.mark.timeout(300)
def test_it_starts_works_stops_and_finds_its_data_again(up: Callable[..., Up]) -> None:
    port = str(ports.choose(0))
    first = up(PORT=port)
    lines = first.await_ready()
    tree = first.tree()
    answers = _pasted(lines)
    conversation = answers["chat"]["conversation"]["id"]
    messages = [message["content"] for message in answers["messages"]["items"]]
    assert messages == ["Hello! What can you do?", answers["chat"]["message"]["content"]]
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(SECONDS) == 0
    wait_gone(*tree)

    second = up(PORT=port)
    second.await_ready()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/conversations/{conversation}/messages",
        headers={"Authorization": f"Bearer {answers['token']}"},  # the signing key was kept as well
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        assert [message["content"] for message in json.load(response)["items"]] == messages
    if sys.platform == "linux":
        tree = second.tree()
        os.kill(second.process.pid, signal.SIGKILL)
        second.process.wait(SECONDS)
        wait_gone(*tree)


def test_a_taken_port(up: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert _refusal(up(PORT=str(port))) == (
            f"parley: 127.0.0.1:{port} is taken by another program: stop that one, or choose another port: "
            "`make up PORT=8001`"
        )


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"PORT": "abc"}, r"PORT: Input should be a valid integer"),
        ({"HOST": "192.0.2.1"}, r"192\.0\.2\.1:\d+ cannot be listened on .*set HOST to an address of this machine"),
        ({"HOST": "no such host"}, r"HOST=no such host is not a name or address of this machine"),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/d"}, r"JWT_SECRET_KEY: DATABASE_URL is set, so this must"),
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
def test_wrong_settings(up: Callable[..., Up], settings: dict[str, str], complaint: str) -> None:
    line = _refusal(up(**{"PORT": str(ports.choose(0)), **settings}))
    assert re.match(f"parley: {complaint}", line), line
    assert "secret" not in line


def test_a_foreign_data_folder(up: Callable[..., Up], home: Path) -> None:
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "thesis.txt").write_text("months of work")
    line = _refusal(up(PORT=str(ports.choose(0))))
    assert line.startswith(f"parley: {home}/postgres is not a data folder of PostgreSQL")


def _refusal(refused: Up) -> str:
    """The one line with which it ends."""
    assert refused.process.wait(SECONDS) == 1
    lines = refused.output.read_text().splitlines()
    complaints = [line for line in lines if not line.startswith("Bringing the database")]
    assert len(complaints) == 1, lines
    return complaints[0]


def _pasted(lines: str) -> dict[str, Any]:
    """Run the lines in a shell as a person would, and return what they got."""
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
