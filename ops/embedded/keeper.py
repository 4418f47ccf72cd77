"""The keeper: the small process that is the parent of one embedded server.

Whoever uses the server holds a shared lock on `<home>/run/<server>.users`. The keeper starts the server, then waits for
the exclusive lock on that file: it gets it exactly when the last user is gone, closed, ended or killed, because the
kernel drops the locks of the dead. Then it stops the server and ends. A server that dies is started again. A keeper
that is killed takes its server with it (Linux).

    python -m ops.embedded.keeper NAME HOME OPTIONS

It detaches, and answers with one line of JSON on its standard output: `{"ready": true}` or `{"error": "..."}`.
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

from ops.embedded import leftovers, locks, ports, state
from ops.embedded.errors import EmbeddedError
from ops.embedded.logs import ServerLog
from ops.embedded.parent_death import dying_with_parent
from ops.embedded.server import Options, Server, plain_environment
from ops.embedded.servers import make_server
from ops.embedded.site import open_site

START_SECONDS = 180  # recovery after a crash is part of it
STOP_SECONDS = 60
FORCE_SECONDS = 10
PORT_ATTEMPTS = 5
RESTARTS = 3  # a server that dies more often than this within RESTARTS_WITHIN seconds is given up
RESTARTS_WITHIN = 60.0
TRIM_EVERY = 60.0
USERS_GONE, SERVER_ENDED = b"u", b"s"


class Keeper:
    """Starts, keeps and stops one server. Its threads and signal handlers speak through a pipe."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.site = server.site
        self.log = ServerLog(self.site, server.name)
        self.version = ""
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._events, self._tell = os.pipe()
        # In this order: a kill closes them in it, and who finds the keeper's lock free must not find the users' taken.
        own = locks.open_lock(self.site, f"{server.name}.keeper")
        self._users = locks.open_lock(self.site, f"{server.name}.users")
        locks.lock(own, fcntl.LOCK_EX, seconds=10, waiting_for="the previous keeper to end")

    def start(self) -> None:
        """Start the server and return when it answers. Raises `EmbeddedError` when it will not."""
        self.version = self.server.prepare()
        leftovers.clear(self.server)
        known = state.read(self.site, self.server.name)
        self.port = known.port if known else 0
        for left in reversed(range(PORT_ATTEMPTS)):
            self.port = ports.choose(self.port)
            try:
                self._run()
                return
            except EmbeddedError:
                if not left or ports.is_free(self.port):
                    raise
                # Somebody else took the port since it was chosen.

    def stay(self) -> int:
        """Keep the server until nobody uses it. Returns the exit code: 1 when the server could not be kept."""
        threading.Thread(target=self._await_users_gone, daemon=True).start()
        deaths: list[float] = []
        while self._next_event() == SERVER_ENDED:
            now = time.monotonic()
            deaths = [death for death in deaths if now - death < RESTARTS_WITHIN] + [now]
            if len(deaths) > RESTARTS:
                self.log.note(f"it ended {len(deaths)} times within {RESTARTS_WITHIN:.0f} s; given up")
                return 1
            try:
                leftovers.clear(self.server)
                self._run()
            except EmbeddedError as error:
                self.log.note(f"not started again: {error.detail}")
                return 1
        self._stop()
        return 0

    def end(self, *_: object) -> None:
        """Have the server stopped as if all users had gone: what SIGTERM asks for."""
        os.write(self._tell, USERS_GONE)

    def _run(self) -> None:
        command = self.server.command(self.port)
        self.log.begin()
        self._record()
        try:
            process = subprocess.Popen(  # noqa: S603  # our own list of arguments, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=self.log.descriptor,
                stderr=self.log.descriptor,
                cwd="/",
                env=plain_environment(),
                preexec_fn=dying_with_parent(self.server.stop_signal),  # it only makes system calls
                start_new_session=True,
                **self.site.run_as,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedError(f"{command[0]} cannot be run: {error}") from error
        self.process = process
        born = psutil.Process(process.pid).create_time()
        self._record(pid=process.pid, born=born)
        try:
            self._await_ready(process)
            self._record(pid=process.pid, born=born, ready=True)
        except BaseException:
            self._stop()
            raise
        threading.Thread(target=self._await_end_of, args=(process,), daemon=True).start()

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None:
            if self.server.is_ready(self.port):
                return
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.server.name} did not answer within {START_SECONDS} s; its log is {self.log.path}"
                )
            time.sleep(0.03)
        raise EmbeddedError(
            f"{self.server.name} on {self.server.data} ended at its start: {self.server.last_words(self.log.text())} "
            f"(log: {self.log.path})"
        )

    def _stop(self) -> None:
        """Cleanly, then less so; bounded."""
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
        known = state.State(self.port, self.version, os.getpid(), pid, born, ready)
        state.write(self.site, self.server.name, known)

    def _next_event(self) -> bytes:
        while not select.select([self._events], [], [], TRIM_EVERY)[0]:
            self.log.trim()
        return os.read(self._events, 1)

    def _await_users_gone(self) -> None:
        fcntl.flock(self._users, fcntl.LOCK_EX)
        self.end()

    def _await_end_of(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        os.write(self._tell, SERVER_ENDED)


def main(arguments: list[str]) -> int:
    name, home, options = arguments
    if os.fork():  # detached: whoever started us need not collect us
        os._exit(0)
    try:
        keeper = Keeper(make_server(name, open_site(Path(home)), Options(**json.loads(options))))
        os.dup2(keeper.log.descriptor, sys.stderr.fileno())
        signal.signal(signal.SIGTERM, keeper.end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        keeper.start()
    except EmbeddedError as error:
        _answer({"error": error.detail})
        return 1
    except Exception as error:
        traceback.print_exc()
        _answer({"error": f"the keeper of {name} failed: {type(error).__name__}: {error}"})
        return 1
    _answer({"ready": True})
    return keeper.stay()


def _answer(what: dict[str, object]) -> None:
    """Say it, and let go of the pipe. That its reader was killed meanwhile is for the lock to notice."""
    line = (json.dumps(what) + "\n").encode()
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
