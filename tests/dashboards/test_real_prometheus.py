"""A real Prometheus scrapes a running platform: every alert has its data, and faults make alerts fire."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from pydantic import SecretStr

from app.config import load_settings
from app.jobs import MAINTENANCE, make_celery
from ops.backup.store import embedded_backup_folder
from ops.embedded import lease_redis, ports
from ops.generate.grafana.dashboards import DASHBOARDS, path_of
from ops.generate.prometheus import all_alerts
from ops.up.monitoring import prepare
from tests.dashboards.prometheus import Prometheus, running_prometheus
from tests.dashboards.test_dashboards import expressions, load, with_values
from tests.ops.up.callers import Caller
from tests.ops.up.conftest import Up, running_platform
from tests.pictures.dashboard import draw_dashboard
from tests.pictures.source import Source
from tests.waiting import wait_until

OPS_TOKEN = "an-ops-token-of-a-test"
# The jobs whose values would otherwise appear only after minutes or days.
JOBS = (
    "backups.weekly_drill",
    "archive.measure",
    "archive.verify",
    "doctor.run",
    "doctor.run_thorough",
    "stats.measure",
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("prometheus"),  # one platform for all
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is missing: install Debian's package"),
]


@pytest.fixture(scope="module")
def platform() -> Iterator[tuple[Up, Caller]]:
    """Run the platform with some traffic and all its jobs done once."""
    port = str(ports.choose_port(0))
    with running_platform(PORT=port, OPS_TOKEN=OPS_TOKEN, WEB_WORKERS="2") as running:
        caller = Caller(port)
        for _ in range(5):
            assert caller.chat() == 200
            assert caller.request("/api/conversations")[0] == 200
            assert caller.request("/api/no-such-path")[0] == 404
        with lease_redis(running.home) as lease, make_celery(lease.url, set_as_current=False) as celery:
            celery.send_task("backups.daily", queue=MAINTENANCE, retry=False)
            wait_until(lambda: list(embedded_backup_folder(running.home).rglob("*.json")))
            for job in JOBS:
                celery.send_task(job, queue=MAINTENANCE, retry=False)
            wait_until(lambda: list(embedded_backup_folder(running.home).rglob("*.drill-*.json")))
            celery.send_task("backups.measure", queue=MAINTENANCE, retry=False)  # beat sends it every five minutes
        yield running, caller


@pytest.fixture(scope="module")
def prometheus(platform: tuple[Up, Caller]) -> Iterator[Prometheus]:
    """Run the Prometheus of `make monitoring` on the platform, with intervals of a second."""
    running, _ = platform
    settings = load_settings(env_file=None)
    server = settings.server.model_copy(update={"home": running.home, "ops_token": SecretStr(OPS_TOKEN)})
    port = ports.choose_port(0)
    commands = prepare(replace(settings, server=server), prometheus_port=port, alertmanager_port=ports.choose_port(0))
    with running_prometheus(commands["prometheus"], running.home / "monitoring", port) as prometheus:
        wait_until(lambda: prometheus.query('up{job="parley"} == 1'))
        yield prometheus


def test_every_compared_value_has_data(platform: tuple[Up, Caller], prometheus: Prometheus) -> None:
    """Without it, an alert could never fire. Traffic continues, because rates need two different scrapes."""
    _, caller = platform
    values = {
        comparison.value for alert in all_alerts() for comparisons in alert.conditions for comparison in comparisons
    }
    selectors = {name for alert in all_alerts() for name in alert.required}

    def missing() -> list[str]:
        caller.chat()
        return sorted(value for value in values | selectors if not prometheus.query(value))

    wait_until(lambda: not missing(), lambda: f"no data for {missing()}", timeout=240)


@pytest.mark.parametrize("path", [path_of(dashboard) for dashboard in DASHBOARDS])
def test_every_panel_has_data(path: str, platform: tuple[Up, Caller], prometheus: Prometheus) -> None:
    """A panel that shows only problems must have data on the left of its comparison."""
    _, caller = platform
    queries = {with_values(expression).replace(" > 0", "") for expression in expressions(load(path))}

    def missing() -> list[str]:
        caller.chat()
        return sorted(query for query in queries if not prometheus.query(query))

    wait_until(lambda: not missing(), lambda: f"no data for {missing()}", timeout=120)


@pytest.mark.parametrize("path", [path_of(dashboard) for dashboard in DASHBOARDS])
def test_picture_has_every_panel(path: str, prometheus: Prometheus) -> None:
    source = Source(prometheus.url, end=time.time(), seconds=60)
    picture = ElementTree.fromstring(draw_dashboard(load(path), source))
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {panel["title"] for panel in load(path)["panels"]} - texts == set()


def test_only_alerts_with_a_cause_fire(prometheus: Prometheus) -> None:
    """A test machine has one disk, no TLS and no provider, so some checks are critical; nothing else is wrong."""
    assert {name for name in prometheus.firing() if not name.startswith("ParleyCheck")} == set()


def test_unreachable_server_fires(platform: tuple[Up, Caller], prometheus: Prometheus) -> None:
    running, _ = platform
    web = running.processes("gunicorn")
    for process in web:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: prometheus.query('up{job="parley"} == 0'))
    finally:
        for process in web:
            os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: prometheus.query('up{job="parley"} == 1'))
