"""Start what is needed, migrate, run the Procfile, and leave nothing behind.

    python -m ops.up

The exit code is 0 after Ctrl-C or SIGTERM, and 1 when something could not be started or ended by itself; then one line
on standard error says what. Ctrl-C a second time does not wait for what is under way.
"""

import os
import signal
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

from app.config import Settings, load_settings
from app.errors import ParleyError
from ops.embedded.parent_death import dying_with_parent
from ops.up.address import Address
from ops.up.environment import migrate, prepare_environment
from ops.up.processes import Processes, prepare_forking
from ops.up.welcome import welcome

PROCFILE = Path("Procfile")
STOP_MARGIN = 5.0  # seconds beyond the web server's own grace before a process is killed


def main() -> int:
    _end_with_make()
    prepare_forking()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return run(load_settings())
    except ParleyError as error:
        for line in error.detail.splitlines():
            sys.stderr.write(f"parley: {line}\n")
        return 1
    except KeyboardInterrupt:
        return 0


def run(settings: Settings) -> int:
    """Run the platform until it is told to stop. Raises `ParleyError` when it cannot be started."""
    address = Address(settings.server.host, settings.server.port)
    address.check_free()
    with ExitStack() as servers:  # stopped in the reverse order: after the processes Redis, then PostgreSQL
        environment = prepare_environment(settings, servers)
        _say("Bringing the database up to date ...")
        migrate(environment)
        processes = Processes(grace_seconds=settings.server.grace_seconds + STOP_MARGIN)
        processes.add_procfile(PROCFILE, environment)

        def greet() -> None:
            if address.await_healthy(processes.stopping):
                _say(welcome(address.url))

        died = processes.run(greet)
    if died:
        sys.stderr.write(f"parley: {died}; the lines above say why\n")
    return 1 if died else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_make() -> None:
    """A killed `make` must take us along; a shell that we were started from by hand need not."""
    if "MAKELEVEL" in os.environ:
        dying_with_parent(signal.SIGTERM, parent=os.getppid())()


def _say(text: str) -> None:
    with suppress(OSError):  # nobody may be listening any more
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
