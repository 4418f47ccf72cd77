"""The files of Prometheus, Alertmanager, Grafana, PgBouncer and postgres_exporter, with Debian's programs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
import urllib3
import yaml
from sqlalchemy import URL, make_url

from ops.generate.prometheus import RULES
from tests.database import migrated_database
from tests.deploy.compose import ROOT, SECRETS, load, services
from tests.faults.live_server import free_port
from tests.processes import reaped
from tests.waiting import wait_until
from tests.web.server import WebServer

PATH = f"{os.environ['PATH']}:/usr/sbin"
PROMTOOL, AMTOOL, PGBOUNCER, EXPORTER = (
    shutil.which(name, path=PATH) for name in ("promtool", "amtool", "pgbouncer", "prometheus-postgres-exporter")
)
TIMEOUT = 60  # seconds, reached only when something is broken


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    """Return all services with only the secrets set."""
    return {name: service.raw for name, service in services(SECRETS).items()}


@pytest.fixture(scope="module")
def scrape_configuration(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that is mounted into Prometheus."""
    configuration: dict[str, Any] = yaml.safe_load(
        mounts(raw["prometheus"])["/etc/prometheus/prometheus.yml"].read_text()
    )
    return configuration


@pytest.fixture(scope="module")
def parley_database(postgres: str) -> Iterator[URL]:
    """Create a migrated database; its role stands for `parley` of the container of PostgreSQL."""
    with migrated_database(postgres, f"parley_pooled_{os.getpid()}") as url:
        yield make_url(url).set(drivername="postgresql")


def mounts(service: dict[str, Any]) -> dict[str, Path]:
    """Return the files and folders of the project that are mounted, by their place in the container."""
    parts = [volume.split(":") for volume in service["volumes"]]
    return {part[1]: ROOT / part[0] for part in parts if part[0].startswith("./")}


def test_mounted_files_exist(raw: dict[str, Any]) -> None:
    for name, service in raw.items():
        for path in mounts({"volumes": service.get("volumes", ())}).values():
            assert path.exists(), (name, path)


def test_targets_are_services_of_the_file(raw: dict[str, Any], scrape_configuration: dict[str, Any]) -> None:
    targets = [
        target
        for job in [*scrape_configuration["scrape_configs"], *scrape_configuration["alerting"]["alertmanagers"]]
        for group in job["static_configs"]
        for target in group["targets"]
    ]
    ports = {"web": "8000", "postgres-exporter": "9187", "localhost": "9090", "alertmanager": "9093"}
    assert dict(target.split(":") for target in targets) == ports
    assert raw["web"]["environment"]["PORT"] == ports["web"]
    for name in ports.keys() - {"localhost"}:
        assert "inside" in raw[name]["networks"], name
    assert "inside" in raw["prometheus"]["networks"]


def test_prometheus_gets_the_token_as_a_file(raw: dict[str, Any], scrape_configuration: dict[str, Any]) -> None:
    [secret] = raw["prometheus"]["secrets"]
    assert load(SECRETS)["secrets"] == {secret: {"environment": "OPS_TOKEN"}}
    [file] = [job["authorization"]["credentials_file"] for job in scrape_configuration["scrape_configs"][:1]]
    assert file == f"/run/secrets/{secret}"
    assert SECRETS["OPS_TOKEN"] not in str(raw["prometheus"])


def test_grafana_reads_the_mounted_dashboards_from_prometheus(raw: dict[str, Any]) -> None:
    mounted = mounts(raw["grafana"])
    provisioning = {
        kind: yaml.safe_load(next(mounted[f"/etc/grafana/provisioning/{kind}"].glob("*.yml")).read_text())
        for kind in ("datasources", "dashboards")
    }
    [source] = provisioning["datasources"]["datasources"]
    address = urlsplit(source["url"])
    assert (address.hostname in raw, address.port, source["isDefault"]) == (True, 9090, True)
    [provider] = provisioning["dashboards"]["providers"]
    assert mounted[provider["options"]["path"]] == ROOT / "./dashboards/grafana"
    assert raw["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == SECRETS["GRAFANA_ADMIN_PASSWORD"]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_accepts_the_configuration(tmp_path: Path, raw: dict[str, Any]) -> None:
    for place, path in mounts(raw["prometheus"]).items():
        shutil.copy(path, tmp_path / Path(place).name)
    assert (tmp_path / Path(RULES).name).exists()
    token, main = tmp_path / "ops_token", tmp_path / "prometheus.yml"
    token.write_text(SECRETS["OPS_TOKEN"])
    main.write_text(main.read_text().replace("/run/secrets/ops_token", str(token)))
    run(str(PROMTOOL), "check", "config", str(main))


@pytest.mark.skipif(AMTOOL is None, reason="amtool is not installed (Debian: prometheus-alertmanager)")
def test_amtool_accepts_the_configuration(raw: dict[str, Any]) -> None:
    [path] = mounts(raw["alertmanager"]).values()
    assert "--config.file=/etc/alertmanager/alertmanager.yml" in raw["alertmanager"]["command"]
    run(str(AMTOOL), "check-config", str(path))


@pytest.mark.process
@pytest.mark.skipif(PGBOUNCER is None, reason="no PgBouncer is installed (Debian: pgbouncer)")
def test_web_server_works_through_pgbouncer(tmp_path: Path, raw: dict[str, Any], parley_database: URL) -> None:
    port = free_port()
    folder = Path("/tmp") / f"parley-pgbouncer-{port}"
    folder.mkdir()
    [file] = mounts(raw["pgbouncer"]).values()
    own = {
        "host=db port=5432 dbname=parley": f"host={parley_database.host} port={parley_database.port} "
        f"dbname={parley_database.database}",
        "= 6432": f"= {port}",
        "/tmp/": f"{folder}/",
    }
    (folder / "pgbouncer.ini").write_text(replaced(file.read_text(), own))
    [shell, option, script] = raw["pgbouncer"]["entrypoint"]
    places = {"/tmp/": f"{folder}/", "/etc/pgbouncer/": f"{folder}/", "exec pgbouncer": f"exec {PGBOUNCER}"}
    script = replaced(script, {**places, '"parley"': f'"{parley_database.username}"'})
    environment = services({**SECRETS, "POSTGRES_PASSWORD": str(parley_database.password)})["pgbouncer"].environment
    options: dict[str, Any] = {}
    if os.getuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "nobody")
        options = {"user": "nobody"}
    through = parley_database.set(host="127.0.0.1", port=port, database="parley").render_as_string(hide_password=False)
    direct = parley_database.render_as_string(hide_password=False)
    before = {"PATH": PATH, "PARLEY_HOME": str(tmp_path), "JWT_SECRET_KEY": SECRETS["JWT_SECRET_KEY"]}
    run(*flask(raw["role-settings"]["command"]), env={**before, "DATABASE_URL": direct})
    with (tmp_path / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([shell, option, script], stdout=log, stderr=log, env=environment, **options)
    with reaped(process):
        wait_until(lambda: can_connect(through), (tmp_path / "pgbouncer.log").read_text)
        with WebServer(tmp_path, DATABASE_URL=through, DATABASE_DIRECT_URL=direct) as server:
            user = {"email": "ada@example.org", "password": "a long password", "name": "Ada"}
            response = server.http.request("POST", f"{server.url}/api/auth/register", json=user)
            assert response.status == 201, response.data
            assert server.http.request("GET", f"{server.url}/health/ready").status == 200
            run(*flask(["flask", "ops", "doctor", "--only", "connection"]), env=server.environment)
    shutil.rmtree(folder)


@pytest.mark.process
@pytest.mark.skipif(
    EXPORTER is None, reason="postgres_exporter is not installed (Debian: prometheus-postgres-exporter)"
)
def test_exporter_reads_the_database(tmp_path: Path, parley_database: URL) -> None:
    variables = {**SECRETS, "DATABASE_URL": parley_database.render_as_string(hide_password=False)}
    environment = services(variables)["postgres-exporter"].environment
    port = free_port()
    with (tmp_path / "exporter.log").open("wb") as log:
        process = subprocess.Popen(
            [str(EXPORTER), f"--web.listen-address=127.0.0.1:{port}"], env=environment, stdout=log, stderr=log
        )
    with reaped(process):
        log_text = (tmp_path / "exporter.log").read_text
        wait_until(lambda: "pg_up 1" in scrape(f"http://127.0.0.1:{port}/metrics"), log_text)
        assert "pg_stat_database_xact_commit" in scrape(f"http://127.0.0.1:{port}/metrics")


def flask(command: list[str]) -> list[str]:
    """Return the command with this environment's `flask`."""
    return [str(Path(sys.executable).parent / command[0]), *command[1:]]


def run(*command: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def can_connect(url: str) -> bool:
    try:
        psycopg2.connect(url).close()
    except psycopg2.OperationalError:
        return False
    return True


def scrape(url: str) -> str:
    try:
        return urllib3.request("GET", url, timeout=10, retries=False).data.decode()
    except urllib3.exceptions.HTTPError:
        return ""
