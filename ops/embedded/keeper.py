"""The keeper: the parent process of one embedded server.

Each user of the server holds a shared lock on `<home>/run/<server>.users`. The keeper starts the server and waits for
the exclusive lock on that file. It gets the lock when no user is left, because the kernel releases the locks of ended
processes. Then it stops the server and exits. It restarts a server that dies. If the keeper is killed, the kernel stops
its server (Linux).

    python -m ops.embedded.keeper NAME HOME OPTIONS

It detaches and prints one line of JSON: `{"ready": true}` or `{"error": "..."}`.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import psutil

from ops.embedded import file_locks, leftovers, ports, state
from ops.embedded.errors import EmbeddedError
from ops.embedded.logs import ServerLog
from ops.embedded.parent_death import signal_on_parent_death
from ops.embedded.server import Options, Server, minimal_environment
from ops.embedded.servers import create_server
from ops.embedded.site import open_site

START_SECONDS = 180  # includes the recovery after a crash
STOP_SECONDS = 60
FORCE_SECONDS = 10
PORT_ATTEMPTS = 5
MAX_RESTARTS = 3  # within RESTART_WINDOW seconds; then the keeper gives up
RESTART_WINDOW = 60.0
TRIM_INTERVAL = 60.0
USERS_GONE, SERVER_ENDED = b"u", b"s"


class Keeper:
    """Supervisor of one server. Its threads and signal handlers send events through a pipe."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.site = server.site
        self.log = ServerLog(self.site, server.name)
        self.version = ""
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._event_reader, self._event_writer = os.pipe()
        # Open in this order: on SIGKILL the kernel closes them in order, and a waiter that sees `keeper` free must not
        # still see `users` locked.
        own = file_locks.open_lock(self.site, f"{server.name}.keeper")
        self._users = file_locks.open_lock(self.site, f"{server.name}.users")
        file_locks.acquire(own, fcntl.LOCK_EX, seconds=10, waiting_for="the previous keeper to end")

    def start(self) -> None:
        """Start the server and return when it is ready. Raises `EmbeddedError` if it does not start."""
        self.version = self.server.prepare()
        leftovers.clear(self.server)
        previous = state.read(self.site, self.server.name)
        self.port = previous.port if previous else 0
        for attempts_left in reversed(range(PORT_ATTEMPTS)):
            self.port = self.server.options.port or ports.choose_port(self.port)
            try:
                self._run()
                return
            except EmbeddedError:
                if not attempts_left or ports.is_free(self.port):
                    raise
                # Another process took the port after it was chosen.

    def supervise(self) -> int:
        """Restart the server when it dies, until it has no users. Returns the exit code: 1 if restarting failed."""
        threading.Thread(target=self._wait_for_users, daemon=True).start()
        deaths: list[float] = []
        while self._next_event() == SERVER_ENDED:
            now = time.monotonic()
            deaths = [death for death in deaths if now - death < RESTART_WINDOW] + [now]
            if len(deaths) > MAX_RESTARTS:
                self.log.note(f"the server ended {len(deaths)} times within {RESTART_WINDOW:.0f} s; giving up")
                return 1
            try:
                leftovers.clear(self.server)
                self._run()
            except EmbeddedError as error:
                self.log.note(f"restart failed: {error.detail}")
                return 1
        self._stop()
        return 0

    def request_stop(self, *_: object) -> None:
        """Stop the server as if all users had ended. Also the handler of SIGTERM."""
        os.write(self._event_writer, USERS_GONE)

    def _run(self) -> None:
        command = self.server.command(self.port)
        self.log.begin()
        self._record()
        try:
            process = subprocess.Popen(  # noqa: S603  # a fixed list of arguments, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=self.log.descriptor,
                stderr=self.log.descriptor,
                cwd="/",
                env=minimal_environment(),
                preexec_fn=signal_on_parent_death(self.server.stop_signal),  # only makes system calls
                start_new_session=True,
                **self.site.run_as,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedError(f"{command[0]} cannot be started: {error}") from error
        self.process = process
        born = psutil.Process(process.pid).create_time()
        self._record(pid=process.pid, born=born)
        try:
            self._wait_until_ready(process)
            self._record(pid=process.pid, born=born, ready=True)
        except BaseException:
            self._stop()
            raise
        threading.Thread(target=self._wait_for_end, args=(process,), daemon=True).start()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None:
            if self.server.is_ready(self.port):
                return
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.server.name} was not ready within {START_SECONDS} s; its log is {self.log.path}"
                )
            time.sleep(0.03)
        raise EmbeddedError(
            f"{self.server.name} on {self.server.data} failed to start: {self.server.failure_reason(self.log.text())} "
            f"(log: {self.log.path})"
        )

    def _stop(self) -> None:
        """Stop the server with its stop signal, then its force signal, then SIGKILL, each with a time limit."""
        process = self.process
        if process is None:
            return
        for number, seconds in (
            (self.server.stop_signal, STOP_SECONDS),
            (self.server.force_signal, FORCE_SECONDS),
            (signal.SIGKILL, FORCE_SECONDS),
        ):
            process.send_signal(number)
            try:
                process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                self.log.note(f"not stopped by {signal.Signals(number).name} within {seconds} s")
        self._record()

    def _record(self, pid: int | None = None, born: float | None = None, ready: bool = False) -> None:
        current = state.State(self.port, self.version, os.getpid(), pid, born, ready)
        state.write(self.site, self.server.name, current)

    def _next_event(self) -> bytes:
        while not select.select([self._event_reader], [], [], TRIM_INTERVAL)[0]:
            self.log.trim()
        return os.read(self._event_reader, 1)

    def _wait_for_users(self) -> None:
        fcntl.flock(self._users, fcntl.LOCK_EX)
        self.request_stop()

    def _wait_for_end(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        os.write(self._event_writer, SERVER_ENDED)


def main(arguments: list[str]) -> int:
    name, home, options = arguments
    if os.fork():  # detached, so the starting process need not wait for it
        os._exit(0)
    try:
        keeper = Keeper(create_server(name, open_site(Path(home)), Options(**json.loads(options))))
        os.dup2(keeper.log.descriptor, sys.stderr.fileno())
        signal.signal(signal.SIGTERM, keeper.request_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        keeper.start()
    except EmbeddedError as error:
        _report({"error": error.detail})
        return 1
    except Exception as error:
        traceback.print_exc()
        _report({"error": f"the keeper of {name} failed: {type(error).__name__}: {error}"})
        return 1
    _report({"ready": True})
    return keeper.supervise()


def _report(result: dict[str, object]) -> None:
    """Print the result and close the pipe. If its reader was killed, the lock on `users` ends the keeper."""
    line = (json.dumps(result) + "\n").encode()
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
