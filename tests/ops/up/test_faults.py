"""`make up` while parts of it fail: it serves what it can, and all of it comes back without a command."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ops.embedded import ports
from tests.disks import fill, mount_small_disk
from tests.ops.conftest import SECONDS, keeper_process, server_process, wait_gone
from tests.ops.up.callers import Caller
from tests.ops.up.conftest import Up
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_server_of_killed_keeper_is_started_again(up: Callable[..., Up], home: Path, name: str) -> None:
    port = str(ports.choose_port(0))
    running = up(PORT=port)
    running.wait_until_ready()
    caller = Caller(port)
    former = server_process(home, name)
    os.kill(keeper_process(home, name).pid, signal.SIGKILL)
    wait_until(lambda: f"{name} had ended and was started again" in running.output.read_text())
    wait_gone(former)
    wait_until(lambda: caller.chat() == 200)
    if name == "redis":
        wait_until(lambda: "ok" in json.dumps(caller.request("/health/ready")))
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(SECONDS) == 0


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """Mount a file system of 300 MB as the home."""
    with mount_small_disk(home, megabytes=300) as folder:
        yield folder


def test_full_disk_ends_no_web_server_and_is_survived(up: Callable[..., Up], small_disk: Path) -> None:
    port = str(ports.choose_port(0))
    running = up(PORT=port, WEB_WORKERS="2")
    running.wait_until_ready()
    caller = Caller(port)
    assert caller.chat() == 200
    web = running.processes("gunicorn")
    ballast = fill(small_disk)
    statuses = [(caller.request("/health/live")[0], caller.chat()) for _ in range(20)]
    assert {live for live, _ in statuses} == {200}
    assert {chat for _, chat in statuses} <= {200, 503, 507}, statuses
    for worker in running.processes("celery"):
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
    os.kill(server_process(small_disk).pid, signal.SIGKILL)
    wait_until(lambda: caller.chat() != 200)
    assert caller.request("/health/live")[0] == 200
    ballast.unlink()
    wait_until(lambda: caller.chat() == 200)
    wait_until(lambda: _jobs_run(running))
    assert all(process.is_running() for process in web)
    status, body = caller.request("/api/conversations")
    assert status == 200
    assert body["items"]
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(SECONDS) == 0


def _jobs_run(running: Up) -> bool:
    """Return whether a worker has pool processes, so that it takes jobs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(process.children() for process in running.processes("celery"))
    return False
