"""Running a Procfile: real processes that behave, misbehave, and die."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.errors import SettingsError
from ops.up.processes import Processes
from tests.ops.conftest import PROJECT, SECONDS, eventually, wait_gone
from tests.processes import reaped

pytestmark = pytest.mark.process

RUNNER = """
import os, sys
from pathlib import Path
from ops.up.processes import Processes, prepare_forking

prepare_forking()
processes = Processes(grace_seconds=float(sys.argv[2]), steady_seconds=float(sys.argv[3]))
processes.add_procfile(Path(sys.argv[1]), os.environ)
print("outcome:", processes.run(lambda: None), flush=True)
"""
# Ends when asked, after saying so; the word is what shows that it listens by now.
POLITE = """trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"""
STUBBORN = """trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done"""


class Run:
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

    def said(self, word: str, times: int = 1) -> bool:
        return self.output.read_text().count(word) >= times

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def outcome(self) -> str:
        assert self.process.wait(SECONDS) == 0, self.output.read_text()
        return self.output.read_text().rpartition("outcome: ")[2].strip()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """A function that runs a Procfile in a process of its own."""
    runs: list[Run] = []

    def start(procfile: str, grace: float = SECONDS, steady: float = SECONDS) -> Run:
        runs.append(Run(tmp_path, procfile, grace, steady))
        return runs[-1]

    yield start
    for one in runs:
        one.process.kill()
        one.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_them_all(run: Callable[..., Run], number: signal.Signals) -> None:
    running = run(f"one: {POLITE}\ntwo: {POLITE}\n")
    eventually(lambda: running.said("| ready", 2))
    tree = running.tree()
    running.process.send_signal(number)
    assert running.outcome() == "None"
    assert running.said("| bye", 2)
    wait_gone(*tree)


def test_a_signal_in_the_first_moment_stops_them_too(run: Callable[..., Run]) -> None:
    running = run(f"one: echo $$ > /dev/null; {POLITE}\n")
    eventually(lambda: len(running.tree()) > 1)
    tree = running.tree()
    running.process.send_signal(signal.SIGTERM)
    assert running.outcome() == "None"
    wait_gone(*tree)


@pytest.mark.parametrize(
    ("end", "how"), [("exit 3", "exit code 3"), ("exit 0", "exit code 0"), ("kill -9 $$", "killed by signal 9")]
)
def test_one_that_never_came_up_is_named_and_ends_the_others(run: Callable[..., Run], end: str, how: str) -> None:
    running = run(f"one: {POLITE}\ntwo: sleep 0.3; {end}\n")
    assert running.outcome() == f"two ended by itself ({how})"


def test_one_that_is_killed_is_started_again_and_the_others_go_on(run: Callable[..., Run]) -> None:
    running = run(f"one: {POLITE}\ntwo: {POLITE}\n", steady=0)
    eventually(lambda: running.said("| ready", 2))
    relays = psutil.Process(running.process.pid).children()
    [victim], [other] = (relay.children() for relay in relays)
    victim.kill()
    eventually(lambda: running.said("| ready", 3))
    assert running.said("ended by itself (killed by signal 9) and is started again")
    tree = running.tree()
    assert other in tree
    running.process.send_signal(signal.SIGTERM)
    assert running.outcome() == "None"
    assert running.said("| bye", 2)
    wait_gone(*tree)


def test_one_that_ends_again_and_again_is_given_up(run: Callable[..., Run]) -> None:
    running = run(f"one: {POLITE}\ntwo: exit 3\n", steady=0)
    assert running.outcome() == "two ended by itself (exit code 3)"
    assert running.output.read_text().count("is started again") == 3


def test_a_command_that_does_not_exist(run: Callable[..., Run]) -> None:
    assert run("web: exec no/such/program\n").outcome() == "web ended by itself (exit code 127)"


def test_a_lost_relay_is_noticed(run: Callable[..., Run]) -> None:
    running = run(f"one: {POLITE}\n")
    eventually(lambda: running.said("| ready"))
    tree = running.tree()
    [relay] = psutil.Process(running.process.pid).children()
    relay.kill()
    assert running.outcome() == "one ended by itself (killed by signal 9)"
    wait_gone(*tree)


def test_a_stubborn_one_is_killed_after_the_grace_time(run: Callable[..., Run]) -> None:
    running = run(f"one: {STUBBORN}\n", grace=0.5)
    eventually(lambda: running.said("| ready"))
    tree = running.tree()
    running.process.send_signal(signal.SIGINT)
    assert running.outcome() == "None"
    assert running.said("| no")
    wait_gone(*tree)


def test_a_second_signal_does_not_wait(run: Callable[..., Run]) -> None:
    running = run(f"one: {STUBBORN}\n", grace=10 * SECONDS)
    eventually(lambda: running.said("| ready"))
    running.process.send_signal(signal.SIGINT)
    eventually(lambda: running.said("| no"))
    running.process.send_signal(signal.SIGINT)
    assert running.outcome() == "None"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals children whose parent ended")
def test_nothing_outlives_a_killed_parent(run: Callable[..., Run]) -> None:
    running = run(f"one: {POLITE}\ntwo: {POLITE}\n")
    eventually(lambda: running.said("| ready", 2))
    tree = running.tree()
    assert len(tree) >= 5  # us, two relays, two commands
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(SECONDS)
    wait_gone(*tree)


def test_a_procfile_that_is_not_there_or_names_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Procfile: No such file or directory"):
        Processes().add_procfile(tmp_path / "Procfile", {})
    (tmp_path / "Procfile").write_text("# nothing\n")
    with pytest.raises(SettingsError, match="names no process"):
        Processes().add_procfile(tmp_path / "Procfile", {})


def test_output_that_nobody_reads_any_more_stops_them(tmp_path: Path) -> None:
    """The terminal was closed, or `make up | head`: nothing is left behind."""
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
