"""The configuration of gunicorn: `gunicorn -c ops/server/gunicorn_conf.py wsgi:flask_app`.

gunicorn executes this file and reads its settings from the module's names.
"""

import atexit
import gc
import logging
import os
import resource
import socket
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from psycogreen.gevent import patch_psycopg

from app.config import load_settings
from app.config.server import MAX_OTHER_REQUESTS
from app.logs import configure_logging
from app.metrics.multiprocess import share
from ops.embedded.site import open_site
from ops.server.composition import exit_on_error
from ops.server.incoming import MAX_AWAITED

with exit_on_error():
    _settings = load_settings()

_server = _settings.server
bind = f"[{_server.host}]:{_server.port}" if ":" in _server.host else f"{_server.host}:{_server.port}"
workers = _server.workers
worker_class = "ops.server.web_worker.DrainingGeventWorker"
# Connections of a worker: streams, other requests, those whose request is awaited, and room for health checks.
worker_connections = _server.streams_per_worker + MAX_OTHER_REQUESTS + MAX_AWAITED + 100
keepalive = 5  # seconds in which the head of a request must arrive; a stop waits this long for idle connections
# Seconds that running requests and turns get after SIGTERM; ops.up waits a little longer before SIGKILL.
graceful_timeout = _server.grace_seconds
max_requests = _server.max_requests
max_requests_jitter = _server.max_requests // 10  # so that the workers do not restart at the same time
# Heartbeat files of the workers; in memory, because a slow disk would look like a hanging worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a random file name
# No control socket: it would be a second way into the process, in the home folder of the user who starts it.
control_socket_disable = True
# Limits of a request's head, above what tokens and proxies need. MAX_BODY_BYTES limits bodies, in the application.
limit_request_line = 8190  # bytes
limit_request_fields = 64
limit_request_field_size = 8190  # bytes
# TRUSTED_PROXIES decides which proxies are trusted; gunicorn's default trusts all clients of this host.
forwarded_allow_ips = ""
accesslog = None  # the application logs one line per request, with its id
GC_THRESHOLD = 10_000  # new objects between collections; one request creates more than the default of 700
preload_app = False  # the worker patches the standard library for gevent before it imports the application


class OneLog(Logger):  # type: ignore[misc]  # gunicorn comes without types
    """A logger that sends gunicorn's messages to the application's log."""

    def setup(self, cfg: Any) -> None:
        """Configure logging as the application does."""
        configure_logging(_server.log_level)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)

    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> dict[str, Any]:
        """Return the values of an access log's format, without the query: it may contain a ticket."""
        atoms, query = super().atoms(resp, req, environ, request_time), environ.get("QUERY_STRING")
        if not query:
            return dict(atoms)
        return {
            name: value.replace(query, "[redacted]") if isinstance(value, str) else value
            for name, value in atoms.items()
        }


logger_class = OneLog


def on_starting(server: Any) -> None:
    """Share metrics between the workers and with Celery's processes of this host. Runs in the arbiter before it forks.

    Nothing is needed when a worker ends: the kernel releases its process slot.
    """
    with exit_on_error():
        if _settings.database.url is None:
            open_site(_server.home)  # first, because it sets the owner of the folder
        share(_server.home)
    _raise_file_limit()


def _raise_file_limit() -> None:
    """Allow as many open files as the connections of a worker need, as far as the system permits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = worker_connections + 500  # to the database, to providers, and files of metrics
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def when_ready(server: Any) -> None:
    """Disconnect clients that stop reading, after WEB_SEND_SECONDS. Runs in the arbiter once its socket is open.

    gunicorn has no such limit, and a worker serves at most `worker_connections`. The kernel measures unacknowledged
    data, so long answers and slow readers are not affected. Connections inherit the option from the listening socket.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for listener in server.LISTENERS:
            listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(_server.send_seconds * 1000))


def post_fork(server: Any, worker: Any) -> None:
    """Make psycopg2 cooperative, so that other greenlets run while one waits for PostgreSQL."""
    patch_psycopg()


def worker_exit(server: Any, worker: Any) -> None:
    """Run the exit functions, then end the process without finalizing the interpreter.

    With greenlets that were stopped within a request, the garbage collector of CPython 3.11 can loop without end during
    finalization, until the arbiter kills the worker. A worker that failed to boot keeps its exit code, which stops the
    arbiter.
    """
    if worker.booted:
        atexit._run_exitfuncs()
        os._exit(0)


def post_worker_init(worker: Any) -> None:
    """Begin the metrics of the process, and exclude the imported application from garbage collections.

    It is most of the objects of the process and is never freed; a collection of all objects delays every stream by
    0.1 s.
    """
    from app.metrics.process import record_process_begun  # imported after gevent has patched the locks that it uses

    record_process_begun("web")
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
