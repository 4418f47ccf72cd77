"""How gunicorn serves Parley: `gunicorn -c ops/gunicorn_conf.py wsgi:flask_app`. the names below are its settings."""

import atexit
import gc
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from psycogreen.gevent import patch_psycopg

from app.config import load_settings
from app.errors import ParleyError, SettingsError
from app.logs import configure_logging
from app.metrics.folder import share
from ops.embedded.site import open_site

try:
    _settings = load_settings()
except SettingsError as error:
    sys.exit("\n".join(f"parley: {line}" for line in error.detail.splitlines()))

_server = _settings.server
bind = f"[{_server.host}]:{_server.port}" if ":" in _server.host else f"{_server.host}:{_server.port}"
workers = _server.workers
worker_class = "ops.web_worker.DrainingGeventWorker"
# An idle kept connection holds up a stop for as long as this, in seconds.
keepalive = 5
# What is under way when a stop is asked for gets this long, in seconds; ops.up waits a little longer before it kills.
graceful_timeout = _server.grace_seconds
max_requests = _server.max_requests
max_requests_jitter = _server.max_requests // 10  # so that the workers are not replaced all at once
# The heartbeat file of each worker is unlinked as soon as it is made; in memory, a slow disk does not look like a hang.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # not a name that others could guess
# No second door into the process, and no socket in the home folder of whoever starts it.
control_socket_disable = True
# The head of a request: more than any token or proxy needs. Bodies are the application's to limit, by MAX_BODY_BYTES.
limit_request_line = 8190  # bytes
limit_request_fields = 64
limit_request_field_size = 8190  # bytes
# How far proxies are believed is for TRUSTED_PROXIES to say; by itself gunicorn believes whoever calls from this host.
forwarded_allow_ips = ""
accesslog = None  # the application writes one line a request, with its id
GC_THRESHOLD = 10_000  # new objects between two collections; Python's own 700 are made and dropped by one request
preload_app = False  # the worker makes the standard library cooperative before the application is imported


class OneLog(Logger):  # type: ignore[misc]  # gunicorn comes without types
    """gunicorn's own messages go where the application's go, in the same shape."""

    def setup(self, cfg: Any) -> None:
        configure_logging(_server.log_level)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)


logger_class = OneLog


def on_starting(server: Any) -> None:
    """Once, in the arbiter, before it forks: its workers count together, with Celery's processes on this host.

    There is nothing to be done when a worker ends: its seat in the folder is free as soon as it is gone.
    """
    try:
        if _settings.database.url is None:
            open_site(_server.home)  # it decides whose the folder is, so it comes before anything in there
        share(_server.home)
    except ParleyError as error:
        sys.exit("\n".join(f"parley: {line}" for line in error.detail.splitlines()))


def when_ready(server: Any) -> None:
    """Once, in the arbiter, as soon as it listens: who takes nothing of an answer gives up its place after a while.

    gunicorn would wait for such a client for ever, and a thousand of them are all that a worker serves. The kernel
    measures it, so it does not matter how long an answer takes, nor how slowly it is read. A client's connection
    inherits it from the socket that listens.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for listener in server.LISTENERS:
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(_server.send_seconds * 1000))


def post_fork(server: Any, worker: Any) -> None:
    """Let a greenlet that waits for PostgreSQL give way to the others."""
    patch_psycopg()


def worker_exit(server: Any, worker: Any) -> None:
    """Leave without taking the interpreter apart.

    With greenlets that were stopped in the middle of a request, the garbage collector of CPython 3.11 has been seen to
    go round for ever at that point, until the arbiter killed the worker at the end of its grace. What asked to be done
    at the end is done here; a worker that never came up keeps its exit code, which stops the arbiter.
    """
    if worker.booted:
        atexit._run_exitfuncs()
        os._exit(0)


def post_worker_init(worker: Any) -> None:
    """Keep the garbage collector from going through the application itself, again and again.

    What has been imported stays for as long as the process does; it is most of the objects there are, and a collection
    of all of them holds up every stream for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
