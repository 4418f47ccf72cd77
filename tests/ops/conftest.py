"""Homes of embedded servers, and processes that hold leases and can be killed."""

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from ops.embedded import file_locks, state
from ops.embedded.leftovers import running_process, wait_ended
from ops.embedded.site import UNPRIVILEGED_USER, Site, open_site

PROJECT = Path(__file__).parents[2]
SECONDS = 100  # limit of every wait; reached only when something is broken

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
class LeaseProcess:
    """A process that holds a lease."""

    process: "subprocess.Popen[str]"
    url: str
    port: int

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)

    def close(self) -> None:
        """Let it close its lease, and wait until it has ended."""
        self.process.communicate(timeout=SECONDS)


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    """Yield a home for embedded servers in a folder that every user can enter; stop its servers at the end."""
    folder = Path(tempfile.mkdtemp(prefix='parley öps "1"-'))
    folder.chmod(0o755)
    home = folder / "home"
    yield home
    if home.is_dir():
        _end_servers(open_site(home))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as folder:
        yield folder


@pytest.fixture
def start_lease(home: Path) -> Iterator[Callable[..., LeaseProcess]]:
    """Return a function that starts a process with a lease of "postgres" or "redis" in the home."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str = "postgres", at: Path = home, script: str = HOLDER) -> LeaseProcess:
        process = subprocess.Popen(
            [sys.executable, "-c", script, name, str(at)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return LeaseProcess(process, **json.loads(process.stdout.readline()))

    yield start
    for process in started:
        process.kill()
        process.communicate()


def server_process(home: Path, name: str = "postgres") -> psutil.Process:
    """Return the process of the server that runs in `home`."""
    current = state.read(open_site(home), name)
    assert current is not None
    process = running_process(current)
    assert process is not None
    return process


def keeper_process(home: Path, name: str = "postgres") -> psutil.Process:
    current = state.read(open_site(home), name)
    assert current is not None
    return psutil.Process(current.keeper)


def wait_gone(*processes: psutil.Process) -> None:
    """Wait until none of them runs."""
    assert not wait_ended(processes, SECONDS)


def run_as_ordinary_user(script: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a Python script as a user who is not root. Skips if that user cannot run Python."""
    if os.geteuid() != 0:
        return _run_script(sys.executable, script, arguments, {})
    entry = pwd.getpwnam(UNPRIVILEGED_USER)
    user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (sys.executable, f"/usr/bin/python{version}"):
        try:
            if _run_script(python, "import psycopg2", (), user).returncode == 0:
                return _run_script(python, script, arguments, user)
        except OSError:
            continue
    return pytest.skip(f"the unprivileged user cannot run Python {version}")


def _run_script(
    python: str, script: str, arguments: Sequence[str | Path], user: dict[str, Any]
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
        **user,
    )


def own_environment(**more: str) -> dict[str, str]:
    """Return an environment for a program under test, without the developer's settings."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return inherited | more


def _end_servers(site: Site) -> None:
    for name in ("postgres", "redis"):
        current = state.read(site, name)
        process = running_process(current) if current else None
        if file_locks.is_held(site, f"{name}.keeper") and current and current.keeper:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(current.keeper).terminate()
        if process is not None:
            wait_ended([process], SECONDS)
