"""The alert of each check fires in a real Prometheus while the check's fault is really made."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import yaml
from flask import Flask

from app.config import Settings
from ops import embedded
from ops.doctor.registry import CHECKS
from ops.doctor.run import DoctorSummary
from ops.doctor.scheduled import run_and_record
from ops.embedded import ports
from ops.generate.prometheus import check_alerts, rules_file
from ops.levels import Level
from tests.dashboards.prometheus import Prometheus, running_prometheus
from tests.ops.conftest import temporary_home
from tests.ops.doctor.alerts import connections, database, operations
from tests.ops.doctor.alerts.site import FAULTS, Site
from tests.ops.doctor.conftest import DoctorInstall, open_install
from tests.ops.installation import run_sql
from tests.waiting import wait_until

__all__ = ["connections", "database", "operations"]  # importing them declares their faults
CRITICAL = [check for check in CHECKS if check.severity is Level.CRITICAL]
SECONDS = 0.5  # between two scrapes, and two evaluations

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("alerts of checks"),  # one Prometheus for all
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is missing: install Debian's package"),
]


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def prometheus(flask_app: Flask, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run a Prometheus with the rules of the checks that scrapes this process. An alert fires without delay."""
    folder = tmp_path_factory.mktemp("prometheus")
    alerts = [replace(alert, duration="0s", required=()) for alert in check_alerts()]
    (folder / "rules.yml").write_text(rules_file(alerts))
    port = ports.choose_port(0)
    with make_server("127.0.0.1", 0, flask_app, handler_class=_Silent) as server:
        targets = [{"targets": [f"127.0.0.1:{server.server_port}"]}]
        scrape = {"job_name": "parley", "static_configs": targets}
        configuration = {"rule_files": ["rules.yml"], "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with running_prometheus(command, folder, port, seconds=SECONDS) as prometheus:
            yield prometheus
        server.shutdown()


@pytest.fixture(scope="module")
def own_server(settings: Settings) -> Iterator[Callable[[], DoctorInstall]]:
    """Return a function that creates an installation on a durable server that archives its WAL.

    Its database has no tables.
    """
    with temporary_home() as home, ExitStack() as stack:
        with embedded.lease_postgres(home) as lease:
            run_sql(
                lease.url,
                "ALTER SYSTEM SET max_prepared_transactions = 2",
                "ALTER SYSTEM SET archive_mode = 'on'",
                "ALTER SYSTEM SET archive_command = 'true'",
            )
        url = stack.enter_context(embedded.lease_postgres(home)).url
        yield lambda: stack.enter_context(open_install(url, settings, {}))


@pytest.fixture
def site(
    url: str,
    make_install: Callable[..., DoctorInstall],
    own_server: Callable[[], DoctorInstall],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(url, make_install, own_server, monkeypatch, tmp_path, stack)


def test_every_check_with_an_alert_has_a_fault() -> None:
    assert sorted(FAULTS) == sorted(check.id for check in CRITICAL)


@pytest.mark.parametrize("number", range(len(CRITICAL)), ids=[check.id for check in CRITICAL])
def test_alert_fires_while_its_fault_is_made(number: int, site: Site, prometheus: Prometheus) -> None:
    check, alert = CRITICAL[number], check_alerts()[number]
    group = "checks_thorough" if check.thorough else "checks"

    def run(install: DoctorInstall) -> DoctorSummary:
        with install.flask_app.app_context():
            return run_and_record(group, [check])

    def critical() -> list[str]:
        selector = f'parley_check_state{{check="{check.id}",state="critical"}}'
        return [sample["value"][1] for sample in prometheus.query(selector)]

    with closing(FAULTS[check.id](site)) as steps:
        well = next(steps)
        assert well is not None
        before = run(well)
        assert before.level is not Level.CRITICAL, before.results
        wait_until(lambda: critical() == ["0"])
        assert alert.name not in prometheus.firing()
        faulty = next(steps) or well
        found = run(faulty)
        assert found.level is Level.CRITICAL, found.results
        wait_until(lambda: alert.name in prometheus.firing(), lambda: f"{critical()}: {prometheus.firing()}")
        assert next(steps, None) is None  # ends the fault
