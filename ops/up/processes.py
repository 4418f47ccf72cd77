"""The processes of the Procfile, run by honcho, with what it leaves open.

Nothing outlives a kill -9 of this process (Linux): each link of the chain, from us to honcho's relay to the command,
has the kernel signal it when the one above it ends. What is under way when a stop is asked for gets a grace time. A
process that ends by itself is named, and started again if it had come up: the others go on. One that had not, or that
ends again and again, stops all of them. honcho's own loop does none of this, so it is replaced; the rest of it is used.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.process import Popen, Process

from app.errors import SettingsError
from ops.embedded.parent_death import dying_with_parent

GRACE_SECONDS = 30.0
POLL = 0.1
STEADY_SECONDS = 10.0  # after its start: who ends sooner would only end again
RESTARTS = 3  # of one process within RESTART_SECONDS
RESTART_SECONDS = 60.0


class DyingPopen(Popen):  # type: ignore[misc]  # honcho comes without types
    """The command: asked to end when the relay above it is gone."""

    def __init__(self, command: str, **options: Any) -> None:
        super().__init__(command, preexec_fn=dying_with_parent(signal.SIGTERM), **options)


class Relay(Process):  # type: ignore[misc]
    """honcho's process between us and a command: it reads the command's output, and dies with us."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._child_ctor = DyingPopen
        self.die_with_us = dying_with_parent(signal.SIGKILL)

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        self.die_with_us()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _heed_not)  # not "ignore", which the command would inherit
        super().run(events, ignore_signals)


class Processes(Manager):  # type: ignore[misc]
    """All processes of a Procfile. `stopping` is set once they are being stopped."""

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS, steady_seconds: float = STEADY_SECONDS) -> None:
        super().__init__()
        self._process_ctor = Relay
        self._grace, self._steady = grace_seconds, steady_seconds
        self._starts: dict[str, list[float]] = {}
        self._asked = 0
        self.stopping = threading.Event()

    def add_procfile(self, path: Path, environment: Mapping[str, str]) -> None:
        """Raises `SettingsError` when the file is missing or names no process."""
        try:
            found = parse_procfile(path.read_text()).processes
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}; run this in the project's folder") from None
        if not found:
            raise SettingsError(f"{path} names no process: a line looks like `web: exec command`")
        for name, command in found.items():
            self.add_process(name, command, env=dict(environment))

    def run(self, when_started: Callable[[], None]) -> str | None:
        """Run them all until a signal or the end of one that is not started again, then stop all of them.

        `when_started` is called in a thread of its own. Returns None after a signal, else a clause that says which
        process ended by itself and how. A second signal ends the grace time.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)
        self._start()
        self._starts = {name: [time.monotonic()] for name in self._processes}
        threading.Thread(target=when_started, daemon=True).start()
        died: str | None = None
        while not self._all_stopped():
            self._take_event()
            if not self._asked and died is None:
                died = self._who_died()
            if self._asked or died:
                self._stop_all()
        while self._take_event():
            pass  # the last lines of output
        return died

    def _ask(self, *_: object) -> None:
        self._asked += 1

    def _take_event(self) -> bool:
        """Show a line or note a start or end. False when nothing happened for a moment."""
        try:
            event = self.events.get(timeout=POLL)
        except queue.Empty:
            self._note_lost_relays()
            return False
        if event.type == "line":
            try:
                self._printer.write(event)
            except OSError:  # the terminal is gone, or the program that read our output
                self._printer.output = Path(os.devnull).open("w")  # noqa: SIM115  # open as long as we are
                self._ask()
        else:
            self._processes[event.name] |= event.data  # pid or returncode
        return True

    def _note_lost_relays(self) -> None:
        for known in self._processes.values():
            if known.get("returncode") is None and not known["process"].is_alive():
                known["returncode"], known["lost"] = known["process"].exitcode, True

    def _who_died(self) -> str | None:
        for name, known in self._processes.items():
            code = known.get("returncode")
            if code is None:
                continue
            how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
            clause = f"{name} ended by itself ({how})"
            if not self._may_start_again(name):
                return clause
            self._system_print(f"{clause} and is started again\n")
            self._start_again(name)
        return None

    def _may_start_again(self, name: str) -> bool:
        """Not where our own relay was lost: its command may still be ending."""
        now, starts = time.monotonic(), self._starts[name]
        lately = [start for start in starts[1:] if now - start < RESTART_SECONDS]
        lost = self._processes[name].get("lost", False)
        return not lost and now - starts[-1] >= self._steady and len(lately) < RESTARTS

    def _start_again(self, name: str) -> None:
        known = self._processes[name]
        known["process"].join(self._grace)  # it has said that its command has ended, and ends itself
        relay = multiprocessing.Process(name=name, target=known["obj"].run, args=(self.events, True))
        self._processes[name] = {"obj": known["obj"], "process": relay}
        relay.start()
        self._starts[name].append(time.monotonic())

    def _stop_all(self) -> None:
        """Ask each to end, once; after the grace time, or when asked again, insist."""
        if not self.stopping.is_set():
            self.stopping.set()
            self._deadline = time.monotonic() + self._grace
        force = self._asked > 1 or time.monotonic() > self._deadline
        for known in self._processes.values():
            wanted = "kill" if force else "terminate"
            if known.get("returncode") is None and "pid" in known and known.get("told") != wanted:
                known["told"] = wanted
                getattr(self._procmgr, wanted)(known["pid"])


def _heed_not(*_: object) -> None:
    """A signal handler that does nothing."""


def prepare_forking() -> None:
    """Make honcho's relays forks of this very process, whose end they then notice, whatever Python's default is."""
    import multiprocessing

    if sys.platform == "linux":
        multiprocessing.set_start_method("fork", force=True)
