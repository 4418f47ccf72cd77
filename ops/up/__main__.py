"""Start the embedded servers, migrate the database, run the Procfile, and stop everything at the end.

    python -m ops.up [--help]

The exit code is 0 after Ctrl-C or SIGTERM. It is 1 if something could not be started or ended by itself; one line on
standard error then says what. A second Ctrl-C kills the processes without a grace time.
"""

import argparse
import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

from app.config import Settings, load_settings
from app.errors import ParleyError
from ops.embedded.parent_death import signal_on_parent_death
from ops.up.address import Address
from ops.up.environment import lease_servers, migrate, prepare_environment
from ops.up.processes import ProcessManager, use_fork
from ops.up.server_monitor import monitored
from ops.up.steps import step
from ops.up.welcome import welcome

PROCFILE = Path("Procfile")
STOP_MARGIN = 5.0  # seconds after the web server's grace time, before a process is killed


def main() -> int:
    """Run and return the exit code. `--help` prints the usage, and any other argument is an error."""
    argparse.ArgumentParser(
        prog="python -m ops.up", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    _end_with_make()
    use_fork()
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
    """Run Parley until a signal stops it. Raises `ParleyError` if it cannot be started."""
    begin = time.monotonic()
    address = Address(settings.server.host, settings.server.port)
    address.check_free()
    with ExitStack() as servers:  # stopped in reverse order: the processes, Redis, PostgreSQL
        leases = lease_servers(settings, servers)
        environment = prepare_environment(settings, leases)
        with step("Migrating the database", sys.stdout):
            migrate(environment)
        servers.enter_context(address.recorded(settings.server.home))
        processes = ProcessManager(grace_seconds=settings.server.grace_seconds + STOP_MARGIN)
        processes.add_procfile(PROCFILE, environment)

        def greet() -> None:
            if address.wait_until_healthy(processes.stopping):
                _print(welcome(address.url, seconds=time.monotonic() - begin))

        _print("Starting the web server, the worker and beat ...")
        with monitored(list(leases.values()), processes.report):
            failure = processes.run(greet)
    if failure:
        sys.stderr.write(f"parley: {failure}; the lines above say why\n")
    return 1 if failure else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_make() -> None:
    """End this process when `make` is killed. A shell that started it directly may end before."""
    if "MAKELEVEL" in os.environ:
        signal_on_parent_death(signal.SIGTERM, parent=os.getppid())()


def _print(text: str) -> None:
    with suppress(OSError):  # the terminal may be closed
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
