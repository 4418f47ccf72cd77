"""Running a Procfile with processes that end, hang or are killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.errors import SettingsError
from ops.up.processes import ProcessManager
from tests.ops.conftest import PROJECT, SECONDS, wait_gone
from tests.processes import reaped
from tests.waiting import wait_until

pytestmark = pytest.mark.process

RUNNER = """
import os, sys
from pathlib import Path
from ops.up.processes import ProcessManager, use_fork

use_fork()
processes = ProcessManager(grace_seconds=float(sys.argv[2]), steady_seconds=float(sys.argv[3]))
processes.add_procfile(Path(sys.argv[1]), os.environ)
print("outcome:", processes.run(lambda: None), flush=True)
"""
# Each prints "ready" after its trap is installed.
ENDS_ON_SIGTERM = """trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"""
IGNORES_SIGTERM = """trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done"""


class Run:
    """A running process manager."""

    def __init__(self, folder: Path, procfile: str, grace: float, steady: float) -> None:
        (folder / "Procfile").write_text(procfile)
        self.output = folder / "output"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUNNER, str(folder / "Procfile"), str(grace), str(steady)],
                cwd=PROJECT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def printed(self, word: str, times: int = 1) -> bool:
        return self.output.read_text().count(word) >= times

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def outcome(self) -> str:
        assert self.process.wait(SECONDS) == 0, self.output.read_text()
        return self.output.read_text().rpartition("outcome: ")[2].strip()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Return a function that runs a Procfile in a new process."""
    runs: list[Run] = []

    def start(procfile: str, grace: float = SECONDS, steady: float = SECONDS) -> Run:
        runs.append(Run(tmp_path, procfile, grace, steady))
        return runs[-1]

    yield start
    for running in runs:
        running.process.kill()
        running.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_all_processes(run: Callable[..., Run], number: signal.Signals) -> None:
    running = run(f"one: {ENDS_ON_SIGTERM}\ntwo: {ENDS_ON_SIGTERM}\n")
    wait_until(lambda: running.printed("| ready", 2))
    tree = running.tree()
    running.process.send_signal(number)
    assert running.outcome() == "None"
    assert running.printed("| bye", 2)
    wait_gone(*tree)


def test_signal_during_the_start_stops_all_processes(run: Callable[..., Run]) -> None:
    running = run(f"one: echo $$ > /dev/null; {ENDS_ON_SIGTERM}\n")
    wait_until(lambda: len(running.tree()) > 1)
    tree = running.tree()
    running.process.send_signal(signal.SIGTERM)
    assert running.outcome() == "None"
    wait_gone(*tree)


@pytest.mark.parametrize(
    ("end", "outcome"), [("exit 3", "exit code 3"), ("exit 0", "exit code 0"), ("kill -9 $$", "killed by signal 9")]
)
def test_web_server_that_fails_at_its_start_stops_the_others(run: Callable[..., Run], end: str, outcome: str) -> None:
    running = run(f"worker: {ENDS_ON_SIGTERM}\nweb: sleep 0.3; {end}\n")
    assert running.outcome() == f"web ended by itself ({outcome})"


def test_other_process_that_keeps_failing_is_restarted_with_growing_pauses(run: Callable[..., Run]) -> None:
    running = run(f"web: {ENDS_ON_SIGTERM}\nworker: exit 3\n")
    wait_until(lambda: running.printed("worker ended by itself (exit code 3)", 3))
    pauses = re.findall(r"restart in (\d+) s", running.output.read_text())
    assert pauses[:3] == ["1", "2", "4"]
    assert "web ended" not in running.output.read_text()
    running.process.send_signal(signal.SIGTERM)
    assert running.outcome() == "None"
    assert running.printed("| bye")


def test_process_that_waits_for_its_restart_does_not_delay_a_stop(run: Callable[..., Run]) -> None:
    running = run("worker: exit 3\n")
    wait_until(lambda: running.printed("restart in 1 s"))
    running.process.send_signal(signal.SIGTERM)
    assert running.outcome() == "None"


def test_web_server_that_was_steady_once_is_restarted(run: Callable[..., Run]) -> None:
    running = run("web: echo ready; sleep 0.3; exit 3\n", steady=0.2)
    wait_until(lambda: running.printed("| ready", 3))
    running.process.send_signal(signal.SIGTERM)
    assert running.outcome() == "None"


def test_killed_process_is_restarted(run: Callable[..., Run]) -> None:
    running = run(f"one: {ENDS_ON_SIGTERM}\ntwo: {ENDS_ON_SIGTERM}\n", steady=0)
    wait_until(lambda: running.printed("| ready", 2))
    relays = psutil.Process(running.process.pid).children()
    [victim], [other] = (relay.children() for relay in relays)
    victim.kill()
    wait_until(lambda: running.printed("| ready", 3))
    assert running.printed("ended by itself (killed by signal 9); restart now")
    tree = running.tree()
    assert other in tree
    running.process.send_signal(signal.SIGTERM)
    assert running.outcome() == "None"
    assert running.printed("| bye", 2)
    wait_gone(*tree)


def test_missing_command_stops_the_others(run: Callable[..., Run]) -> None:
    assert run("web: exec no/such/program\n").outcome() == "web ended by itself (exit code 127)"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals children whose parent ended")
@pytest.mark.parametrize("command", [ENDS_ON_SIGTERM, IGNORES_SIGTERM])
def test_process_whose_relay_was_killed_is_ended_and_restarted(run: Callable[..., Run], command: str) -> None:
    running = run(f"one: {command}\n", grace=0.5, steady=0)
    wait_until(lambda: running.printed("| ready"))
    [relay] = psutil.Process(running.process.pid).children()
    [former] = relay.children()
    relay.kill()
    wait_until(lambda: running.printed("| ready", 2))
    wait_gone(former)
    running.process.send_signal(signal.SIGTERM)
    assert running.outcome() == "None"


def test_process_that_ignores_sigterm_is_killed_after_the_grace_time(run: Callable[..., Run]) -> None:
    running = run(f"one: {IGNORES_SIGTERM}\n", grace=0.5)
    wait_until(lambda: running.printed("| ready"))
    tree = running.tree()
    running.process.send_signal(signal.SIGINT)
    assert running.outcome() == "None"
    assert running.printed("| no")
    wait_gone(*tree)


def test_second_signal_kills_at_once(run: Callable[..., Run]) -> None:
    running = run(f"one: {IGNORES_SIGTERM}\n", grace=10 * SECONDS)
    wait_until(lambda: running.printed("| ready"))
    running.process.send_signal(signal.SIGINT)
    wait_until(lambda: running.printed("| no"))
    running.process.send_signal(signal.SIGINT)
    assert running.outcome() == "None"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals children whose parent ended")
def test_killed_parent_leaves_no_process(run: Callable[..., Run]) -> None:
    running = run(f"one: {ENDS_ON_SIGTERM}\ntwo: {ENDS_ON_SIGTERM}\n")
    wait_until(lambda: running.printed("| ready", 2))
    tree = running.tree()
    assert len(tree) >= 5  # the manager, two relays, two commands
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(SECONDS)
    wait_gone(*tree)


def test_missing_or_empty_procfile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Procfile: No such file or directory"):
        ProcessManager().add_procfile(tmp_path / "Procfile", {})
    (tmp_path / "Procfile").write_text("# nothing\n")
    with pytest.raises(SettingsError, match="contains no process"):
        ProcessManager().add_procfile(tmp_path / "Procfile", {})


def test_closed_output_stops_all_processes(tmp_path: Path) -> None:
    """Such as a closed terminal, or `make up | head`."""
    (tmp_path / "Procfile").write_text("one: while :; do echo line; sleep 0.02; done\n")
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tmp_path / "Procfile"), "60", "60"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with reaped(process):
        assert process.stdout is not None
        assert b"line" in process.stdout.readline()
        root = psutil.Process(process.pid)
        tree = [root, *root.children(recursive=True)]
        process.stdout.close()
        process.wait(SECONDS)
    wait_gone(*tree)
