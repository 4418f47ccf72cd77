"""The processes of the Procfile, run by honcho, with restarts and clean stops.

No process outlives a SIGKILL of this one (Linux): this process, honcho's relay and the command form a chain, in which
the kernel signals each process when its parent ends. A stop has a grace time. A process that ends by itself is reported
and restarted, after a pause if it keeps ending; the others continue. Only the web server stops everything, if its first
start fails: then a setting or the address is wrong, and its last lines say so. honcho's own main loop does none of
this, so it is replaced; the rest of honcho is used.
"""

import errno
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Message
from honcho.process import Popen, Process

from app.errors import SettingsError
from ops.embedded.parent_death import signal_on_parent_death
from ops.up.restarts import STEADY_SECONDS, RestartPauses

GRACE_SECONDS = 30.0
POLL = 0.1
WEB = "web"  # the process without which the others are not needed
OUTPUT_LOST = (errno.EPIPE, errno.EIO, errno.EBADF)  # the reading program or the terminal is gone


class CommandPopen(Popen):  # type: ignore[misc]  # honcho has no types
    """A command that gets SIGTERM when its relay ends."""

    def __init__(self, command: str, **options: Any) -> None:
        super().__init__(command, preexec_fn=signal_on_parent_death(signal.SIGTERM), **options)


class Relay(Process):  # type: ignore[misc]
    """honcho's process that reads the output of a command. It is killed when this process ends."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._child_ctor = CommandPopen
        self.request_signal = signal_on_parent_death(signal.SIGKILL)

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        self.request_signal()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _do_nothing)  # not SIG_IGN, which the command would inherit
        super().run(events, ignore_signals)


class ProcessManager(Manager):  # type: ignore[misc]
    """The processes of a Procfile. `stopping` is set when they are being stopped."""

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS, steady_seconds: float = STEADY_SECONDS) -> None:
        super().__init__()
        self._process_ctor = Relay
        self._grace, self._steady = grace_seconds, steady_seconds
        self._pauses: dict[str, RestartPauses] = {}
        self._stop_requests = 0
        self.stopping = threading.Event()

    def add_procfile(self, path: Path, environment: Mapping[str, str]) -> None:
        """Add the processes of the file. Raises `SettingsError` if it is missing or has none."""
        try:
            commands = parse_procfile(path.read_text()).processes
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}; run this command in the project's folder") from None
        if not commands:
            raise SettingsError(f"{path} contains no process: add a line such as `web: exec command`")
        for name, command in commands.items():
            self.add_process(name, command, env=dict(environment))

    def run(self, when_started: Callable[[], None]) -> str | None:
        """Run all processes until a signal, or until the first start of the web server fails; then stop all of them.

        `when_started` is called in a separate thread. Returns None after a signal, else a clause that says how the web
        server ended. A second signal ends the grace time.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._request_stop)
        self._start()
        self._pauses = {name: RestartPauses(time.monotonic(), self._steady) for name in self._processes}
        threading.Thread(target=when_started, daemon=True).start()
        failure: str | None = None
        while not (self.stopping.is_set() and self._all_stopped()):
            self._handle_event()
            if not self._stop_requests and failure is None:
                failure = self._restart_ended()
            if self._stop_requests or failure:
                self._stop_all()
        while self._handle_event():
            pass  # the last lines of output
        return failure

    def report(self, text: str) -> None:
        """Print a line beside those of the processes. Any thread may call it."""
        self.events.put(Message("line", text, datetime.now(), "system", None))  # noqa: DTZ005  # honcho prints local time

    def _request_stop(self, *_: object) -> None:
        self._stop_requests += 1

    def _handle_event(self) -> bool:
        """Print a line, or record a start or end. Returns False if there was no event for a moment."""
        try:
            event = self.events.get(timeout=POLL)
        except queue.Empty:
            self._record_lost_relays()
            return False
        if event.type == "line":
            self._print(event)
        else:
            self._processes[event.name] |= event.data  # pid or returncode
        return True

    def _print(self, event: Any) -> None:
        """Print a line. A lost reader stops all processes; a full disk under the output only loses the line."""
        try:
            self._printer.write(event)
        except OSError as error:
            if error.errno in OUTPUT_LOST:
                self._printer.output = Path(os.devnull).open("w")  # noqa: SIM115  # open until the end
                self._request_stop()

    def _record_lost_relays(self) -> None:
        """Record the end of a process whose relay was killed, once the kernel's SIGTERM or our SIGKILL has ended it."""
        for entry in self._processes.values():
            if entry.get("returncode") is not None or entry["process"].is_alive():
                continue
            pid = entry.get("pid")
            if pid is None or not psutil.pid_exists(pid):
                entry["returncode"] = entry["process"].exitcode
            elif time.monotonic() > entry.setdefault("kill_at", time.monotonic() + self._grace):
                self._procmgr.kill(pid)

    def _restart_ended(self) -> str | None:
        """Restart processes that ended by themselves, each after its pause.

        Returns a clause about the web server if its first start failed.
        """
        now = time.monotonic()
        for name, entry in self._processes.items():
            code = entry.get("returncode")
            if code is None:
                continue
            if "restart_at" not in entry:
                clause = f"{name} ended by itself ({_outcome(code)})"
                pause = self._pauses[name].pause_after_end(now)
                if name == WEB and not self._pauses[name].steady_once:
                    return clause
                self.report(f"{clause}; restart {f'in {pause:.0f} s' if pause else 'now'}")
                entry["restart_at"] = now + pause
            if now >= entry["restart_at"]:
                self._restart(name)
        return None

    def _restart(self, name: str) -> None:
        entry = self._processes[name]
        entry["process"].join(self._grace)  # the relay ends after it has reported the end of its command
        relay = multiprocessing.Process(name=name, target=entry["obj"].run, args=(self.events, True))
        self._processes[name] = {"obj": entry["obj"], "process": relay}
        relay.start()
        self._pauses[name].started_at = time.monotonic()

    def _stop_all(self) -> None:
        """Send SIGTERM to each process once; after the grace time or a second request, SIGKILL."""
        if not self.stopping.is_set():
            self.stopping.set()
            self._deadline = time.monotonic() + self._grace
        force = self._stop_requests > 1 or time.monotonic() > self._deadline
        for entry in self._processes.values():
            action = "kill" if force else "terminate"
            if entry.get("returncode") is None and "pid" in entry and entry.get("sent") != action:
                entry["sent"] = action
                getattr(self._procmgr, action)(entry["pid"])


def _outcome(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"


def _do_nothing(*_: object) -> None:
    """Ignore a signal."""


def use_fork() -> None:
    """Let honcho fork its relays from this process, so that the kernel can signal them when it ends (Linux)."""
    if sys.platform == "linux":
        multiprocessing.set_start_method("fork", force=True)
