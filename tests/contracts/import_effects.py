"""Import every module of app, ops and tasks one by one, and report what each import changes in the process.

python -m tests.contracts.import_effects

Prints JSON: for each module with effects, the names of the changed parts. What third-party packages do when they are
imported is not counted: they are imported first.
"""

import ast
import atexit
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "ops", "tasks")
# Run by another program, which executes them as its start: gunicorn, Celery, and `python -m`.
START_FILES = {"ops.server.gunicorn_conf", "tasks.beat", "tasks.worker"}


def modules() -> list[str]:
    names = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in names if name not in START_FILES and not name.endswith("__main__")]


def imported_by(path: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports, from any of its lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_third_parties() -> None:
    """Import what the packages import from elsewhere."""
    names = {name for package in PACKAGES for path in (ROOT / package).rglob("*.py") for name in imported_by(path)}
    for name in sorted(names):
        if name.partition(".")[0] not in PACKAGES:
            try:
                importlib.import_module(name)
            except ImportError:  # a name in a module, or a package of another platform
                continue


def handlers(logger: logging.Logger) -> tuple[Any, ...]:
    return (logger.level, logger.propagate, logger.disabled, *map(repr, logger.handlers), *map(repr, logger.filters))


def open_files() -> dict[str, str]:
    files = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            files[descriptor.name] = str(descriptor.readlink())
        except OSError:  # that of the listing itself
            continue
    return files


def record_calls(owner: Any, name: str) -> list[str]:
    """Replace a function of a library by one that records its calls, for state that cannot be listed."""
    calls: list[str] = []
    function = getattr(owner, name)

    def recording(*arguments: Any, **named: Any) -> Any:
        functions = [*arguments, *named.values()]
        # Mapping a class makes SQLAlchemy register listeners of its own.
        if any(getattr(item, "__module__", "").partition(".")[0] in PACKAGES for item in functions if callable(item)):
            calls.append(f"{name} {arguments} {named}")
        return function(*arguments, **named)

    setattr(owner, name, recording)
    return calls


def parts() -> dict[str, Callable[[], Any]]:
    """Return functions that read each part of the process, by name."""
    import celery._state
    import prometheus_client.values
    import psycopg2.extensions
    import sqlalchemy.dialects
    import sqlalchemy.event
    from gevent.monkey import is_module_patched

    fork_hooks = record_calls(os, "register_at_fork")
    listeners = record_calls(sqlalchemy.event, sqlalchemy.event.listen.__name__)
    umask = os.umask(0)
    os.umask(umask)

    def read_umask() -> int:
        current = os.umask(umask)
        os.umask(current)
        return current

    return {
        "os.environ": lambda: dict(os.environ),
        "signal handlers": lambda: {number: signal.getsignal(number) for number in signal.valid_signals()},
        "threads": lambda: sorted(thread.name for thread in threading.enumerate()),
        "warnings filters": lambda: list(warnings.filters),
        "root logger": lambda: handlers(logging.root),
        "parley loggers": lambda: {
            name: handlers(logger)
            for name, logger in logging.root.manager.loggerDict.items()
            if isinstance(logger, logging.Logger)
            and name.split(".")[0] in ("parley", *PACKAGES)
            and handlers(logger)[3:]
        },
        "loggers of libraries": lambda: {
            name: handlers(logger)
            for name, logger in logging.root.manager.loggerDict.items()
            if isinstance(logger, logging.Logger) and name.split(".")[0] not in ("parley", *PACKAGES)
        },
        "log levels": lambda: (logging.root.manager.disable, logging.getLogRecordFactory()),
        "psycopg2 adapters": lambda: dict(psycopg2.extensions.adapters),
        "psycopg2 types": lambda: dict(psycopg2.extensions.string_types),
        "psycopg2 wait callback": psycopg2.extensions.get_wait_callback,
        "gevent patches": lambda: [
            name for name in ("os", "socket", "ssl", "threading", "time") if is_module_patched(name)
        ],
        "socket": lambda: (socket.socket, socket.getaddrinfo, socket.getdefaulttimeout()),
        "SQLAlchemy dialects": lambda: sorted(sqlalchemy.dialects.registry.impls.keys() - {"postgresql"}),
        "SQLAlchemy listeners": lambda: list(listeners),
        "prometheus value class": lambda: prometheus_client.values.ValueClass,
        "Celery's current application": lambda: celery._state._tls.current_app,
        "hooks of interpreter": lambda: (sys.excepthook, sys.displayhook, threading.excepthook, sys.unraisablehook),
        "import system": lambda: ([*sys.path], [*sys.meta_path], [*sys.path_hooks]),
        "replaced modules": lambda: sorted(
            name for name, module in sys.modules.items() if getattr(module, "__name__", name) != name
        ),
        "absent modules": lambda: sorted(name for name, module in sys.modules.items() if module is None),
        "exit functions": atexit._ncallbacks,
        "fork hooks": lambda: list(fork_hooks),
        "open files": open_files,
        "working directory": os.getcwd,
        "umask": read_umask,
        "limits of interpreter": lambda: (sys.getrecursionlimit(), sys.getswitchinterval(), gc.get_threshold()),
        "garbage collector": lambda: (gc.isenabled(), gc.get_freeze_count()),
        "standard streams": lambda: (id(sys.stdin), id(sys.stdout), id(sys.stderr)),
    }


def main() -> None:
    import_third_parties()
    readers = parts()
    effects: dict[str, list[str]] = {}
    before = {part: read() for part, read in readers.items()}
    for name in modules():
        importlib.import_module(name)
        after = {part: read() for part, read in readers.items()}
        if changed := [part for part in readers if after[part] != before[part]]:
            effects[name] = changed
        before = after
    sys.stdout.write(json.dumps(effects))


if __name__ == "__main__":
    main()
