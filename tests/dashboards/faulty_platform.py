"""A running platform with a real Prometheus and Alertmanager, in which faults are made."""

import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
from pydantic import SecretStr

from app.config import load_settings
from app.jobs import INTERACTIVE, MAINTENANCE, make_celery
from ops.backup.store import embedded_backup_folder
from ops.embedded import lease_postgres, lease_redis, ports
from ops.up.monitoring import prepare
from tests.dashboards.alertmanager import Notifications, running_alertmanager
from tests.dashboards.prometheus import Prometheus, running_prometheus
from tests.dashboards.short_rules import short_rules, short_values
from tests.fakes.upstream import Upstream
from tests.ops.up.callers import Caller
from tests.ops.up.conftest import Up
from tests.waiting import wait_until

OPS_TOKEN = "an-ops-token-of-a-test"
STREAMS, POOL = 5, 3  # most streams and connections of the web worker
SETTINGS = {
    "OPS_TOKEN": OPS_TOKEN,
    "WEB_WORKERS": "1",
    "AI_PROVIDER": "compatible",
    "AI_MODEL": "fake-model",
    "AI_RETRIES": "0",
    "AI_CIRCUIT_FAILURES": "2",
    "AI_CIRCUIT_OPEN_SECONDS": "3600",
    "STREAMS_PER_WORKER": str(STREAMS),
    "DB_POOL_SIZE": str(POOL),
    "DB_MAX_OVERFLOW": "0",
    "DB_POOL_TIMEOUT": "0.5",
    "DB_LOCK_TIMEOUT_MS": "500",
    "RATE_LIMIT_USER": "0",
    "RATE_LIMIT_ADDRESS": "0",
    "MCP_PRIVATE_HOSTS": "127.0.0.1",
}


@dataclass
class FaultyPlatform:
    """The platform and what watches it. `disk_problem` says why its home is not on a small disk of its own, if so."""

    up: Up
    caller: Caller
    upstream: Upstream
    prometheus: Prometheus
    notifications: Notifications
    database_url: str
    broker_url: str
    disk_problem: str

    @property
    def backups(self) -> Path:
        return embedded_backup_folder(self.up.home)

    def connect(self) -> Any:
        """Open a session of the owner, in AUTOCOMMIT."""
        connection = psycopg2.connect(self.database_url.replace("+psycopg2", ""))
        connection.autocommit = True
        return connection

    def execute(self, *statements: str) -> None:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def run_jobs(self, *names: str) -> None:
        """Enqueue jobs as beat does. Their schedule would run them after minutes or days."""
        with make_celery(self.broker_url, set_as_current=False) as celery:
            for name in names:
                celery.send_task(name, queue=MAINTENANCE, retry=False)

    def fill_queue(self, job: str, count: int) -> None:
        with (
            make_celery(self.broker_url, set_as_current=False) as celery,
            celery.connection_for_write() as connection,
            connection.Producer() as producer,
        ):
            for _ in range(count):
                celery.send_task(job, queue=INTERACTIVE, retry=False, producer=producer)

    def purge_queue(self) -> None:
        with make_celery(self.broker_url, set_as_current=False) as celery, celery.connection_for_write() as connection:
            connection.default_channel.queue_purge(INTERACTIVE)

    def assert_fires(self, *names: str, during: Callable[[], Any] = lambda: None) -> None:
        """Wait until these alerts fire; `during` is called at each look, so that the fault continues."""

        def missing() -> set[str]:
            during()
            return set(names) - self.prometheus.firing()

        wait_until(lambda: not missing(), lambda: f"not firing: {self._values(missing())}", timeout=200)

    def assert_quiet(self, *names: str, during: Callable[[], Any] = lambda: None) -> None:
        """Wait until none of these alerts fires."""

        def firing() -> set[str]:
            during()
            return set(names) & self.prometheus.firing()

        wait_until(lambda: not firing(), lambda: f"still firing: {self._values(firing())}", timeout=300)

    def _values(self, names: set[str]) -> dict[str, dict[str, list[Any]]]:
        """Return what these alerts compare now."""
        return {
            name: {
                value: [sample["value"][1] for sample in self.prometheus.query(value)] for value in short_values(name)
            }
            for name in names
        }

    @contextmanager
    def open_streams(self, count: int) -> Iterator[None]:
        """Read answers that do not end."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.caller.token}"}
        body = b'{"message": "hello", "stream": true}'
        responses = [
            urllib.request.urlopen(
                urllib.request.Request(f"{self.caller.url}/api/chat", body, headers),
                timeout=100,
            )
            for _ in range(count)
        ]
        try:
            yield
        finally:
            for response in responses:
                response.close()

    @contextmanager
    def requests(self, path: str, callers: int) -> Iterator[None]:
        """Let several callers request `path` again and again."""
        stopped = threading.Event()

        def repeat() -> None:
            while not stopped.is_set():
                self.caller.request(path)

        threads = [threading.Thread(target=repeat, name=f"caller {number}") for number in range(callers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            for thread in threads:
                thread.join()


@contextmanager
def watched_platform(up: Up, port: str, upstream: Upstream, disk_problem: str) -> Iterator[FaultyPlatform]:
    """Run Prometheus and Alertmanager as `make monitoring` does, with short times, on a platform that is ready."""
    settings = load_settings(env_file=None)
    server = settings.server.model_copy(update={"home": up.home, "ops_token": SecretStr(OPS_TOKEN)})
    prometheus_port, alertmanager_port = ports.choose_port(0), ports.choose_port(0)
    commands = prepare(
        replace(settings, server=server), prometheus_port=prometheus_port, alertmanager_port=alertmanager_port
    )
    folder = up.home / "monitoring"
    (folder / "rules.yml").write_text(short_rules())
    with (
        lease_postgres(up.home) as postgres,
        lease_redis(up.home) as redis,
        running_alertmanager(commands["alertmanager"], folder) as notifications,
        running_prometheus(commands["prometheus"], folder, prometheus_port, seconds=2) as prometheus,
    ):
        wait_until(lambda: prometheus.query('up{job="parley"} == 1'))
        caller = Caller(port)
        yield FaultyPlatform(up, caller, upstream, prometheus, notifications, postgres.url, redis.url, disk_problem)
