"""Homes for embedded servers, and helper processes that use them and can be killed."""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from ops.embedded import locks, state
from ops.embedded.leftovers import wait_ended
from ops.embedded.site import Site, open_site

PROJECT = Path(__file__).parents[2]
SECONDS = 100  # bound of every wait: generous, because it is only reached by a fault

HOLDER = """
import json, sys
from pathlib import Path
from typing import Any
from ops import embedded

name, home = sys.argv[1:]
options = {"durable": False}
with getattr(embedded, f"lease_{name}")(Path(home), durable=False) as lease:
    print(json.dumps({"url": lease.url, "port": lease.port}), flush=True)
    sys.stdin.read()  # until the test closes it
"""


@dataclass
class Holder:
    """A process that holds a lease."""

    process: "subprocess.Popen[str]"
    url: str
    port: int

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)

    def close(self) -> None:
        """Ask it to close its lease, and wait until it has ended."""
        self.process.communicate(timeout=SECONDS)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home for embedded servers in a folder that every user may enter. What still runs there at the end is ended."""
    folder = Path(tempfile.mkdtemp(prefix='parley öps "1"-'))
    folder.chmod(0o755)
    home = folder / "home"
    yield home
    if home.is_dir():
        _end_servers(open_site(home))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def hold(home: Path) -> Iterator[Callable[..., Holder]]:
    """A function that starts a process which leases "postgres" or "redis" in the home."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str = "postgres", at: Path = home, script: str = HOLDER) -> Holder:
        process = subprocess.Popen(
            [sys.executable, "-c", script, name, str(at)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return Holder(process, **json.loads(process.stdout.readline()))

    yield start
    for process in started:
        process.kill()
        process.communicate()


def query(url: str, sql: str) -> list[tuple[object, ...]]:
    """Run one statement on a connection of its own."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def server_process(home: Path, name: str = "postgres") -> psutil.Process:
    """The server that runs in `home`."""
    known = state.read(open_site(home), name)
    assert known is not None
    process = known.process()
    assert process is not None
    return process


def keeper_process(home: Path, name: str = "postgres") -> psutil.Process:
    known = state.read(open_site(home), name)
    assert known is not None
    return psutil.Process(known.keeper)


def wait_gone(*processes: psutil.Process) -> None:
    """Wait until none of them runs."""
    assert not wait_ended(processes, SECONDS)


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until it is so. For what no event tells of, such as a file that another program makes."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run_as_ordinary_user(script: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a Python script as a user who is not root: ourselves, or `nobody`. Skips where that user has no Python."""
    if os.geteuid() != 0:
        return _run_script(sys.executable, script, arguments, {})
    entry = pwd.getpwnam("nobody")
    who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (sys.executable, f"/usr/bin/python{version}"):
        try:
            if _run_script(python, "import psycopg2", (), who).returncode == 0:
                return _run_script(python, script, arguments, who)
        except OSError:
            continue
    return pytest.skip(f"user nobody can run no Python {version} here")


def _run_script(
    python: str, script: str, arguments: Sequence[str | Path], who: dict[str, Any]
) -> "subprocess.CompletedProcess[str]":
    paths = os.pathsep.join([str(PROJECT), *filter(None, sys.path)])
    return subprocess.run(
        [python, "-c", script, *map(str, arguments)],
        cwd="/",
        env=own_environment(PYTHONPATH=paths, HOME="/nonexistent"),
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
        **who,
    )


def own_environment(**more: str) -> dict[str, str]:
    """The environment for a program under test: nothing of the developer's settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | more


def _end_servers(site: Site) -> None:
    for name in ("postgres", "redis"):
        known = state.read(site, name)
        process = known.process() if known else None
        if locks.is_held(site, f"{name}.keeper") and known and known.keeper:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(known.keeper).terminate()
        if process is not None:
            wait_ended([process], SECONDS)
