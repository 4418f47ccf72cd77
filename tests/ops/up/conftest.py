"""A running `make up`, from outside."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.ops.conftest import PROJECT, keeper_process, own_environment, server_process, temporary_home
from tests.waiting import wait_until


def copy_project(folder: Path) -> Path:
    """Create a copy of the project without the developer's .env and .parley, and return it."""
    folder.mkdir()
    for name in ("app", "ops", "tasks", "migrations", "wsgi.py", "Procfile", ".venv"):
        (folder / name).symlink_to(PROJECT / name)
    return folder


@pytest.fixture
def clone(home: Path) -> Path:
    return copy_project(home.parent / "clone")


@contextmanager
def running_platform(**settings: str) -> Iterator["Up"]:
    """Run `make up` with a new home until the context ends."""
    with temporary_home() as home:
        running = Up(copy_project(home.parent / "clone"), home, **settings)
        try:
            running.wait_until_ready()
            yield running
        finally:
            running.process.terminate()
            running.process.wait()


class Up:
    """A running `python -m ops.up`."""

    def __init__(self, clone: Path, home: Path, **settings: str) -> None:
        self.home = home
        self.output = clone / "output"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.up"],
                cwd=clone,
                env=own_environment(**{"PARLEY_HOME": str(home), "WEB_WORKERS": "1", **settings}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> str:
        """Wait until it is ready, and return the commands that it prints."""
        wait_until(lambda: "Parley is running" in self.output.read_text() or self.process.poll() is not None)
        found = re.search(r"^URL=.*?(?=^\s*$)", self.output.read_text(), re.MULTILINE | re.DOTALL)
        assert found, self.output.read_text()
        return found.group()

    def tree(self) -> list[psutil.Process]:
        """Return all its processes: those of the Procfile, the keepers, the servers and their children."""
        roots = [psutil.Process(self.process.pid)]
        for name in ("postgres", "redis"):
            roots += [keeper_process(self.home, name), server_process(self.home, name)]
        return [process for root in roots for process in (root, *root.children(recursive=True))]

    def processes(self, word: str) -> list[psutil.Process]:
        """Return its processes whose command line contains `word`."""
        return [process for process in self.tree() if word in _command_line(process)]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture
def up(clone: Path, home: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(**settings: str) -> Up:
        started.append(Up(clone, home, **settings))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.wait()
