"""The jobs of the catalogue, and the production worker and beat with them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.config import Settings
from ops.catalogue.declarations import Job, load
from ops.catalogue.jobs import JOBS
from tests.jobs.conftest import INHERITED
from tests.jobs.processes import PROJECT, SECONDS

PRINT_CONFIGURATION = """
import json
from tasks.worker import celery_app
jobs = {name: [job.soft_time_limit, job.time_limit] for name, job in celery_app.tasks.items() if "." in name}
conf = celery_app.conf
print(json.dumps({
    "jobs": {name: limits for name, limits in jobs.items() if not name.startswith("celery.")},
    "conf": {name: conf[name] for name in (
        "task_acks_late", "task_reject_on_worker_lost", "worker_prefetch_multiplier", "accept_content",
        "broker_connection_retry_on_startup", "worker_concurrency", "timezone", "broker_transport_options",
        "result_backend")},
}))
"""


def test_names_ids_and_runbooks_are_unique() -> None:
    for field in ("name", "id", "runbook"):
        assert len({getattr(job, field) for job in JOBS}) == len(JOBS)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_job_has_name_description_function_and_runbook(job: Job) -> None:
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", job.name)
    assert re.fullmatch(r"[A-Z][^.]*\.", job.description)
    assert callable(load(job.function))
    page = (PROJECT / job.runbook).read_text()
    assert page.startswith(f"# {job.name}\n")
    assert job.description in page


def run_script(settings: Settings, home: Path, script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a Python script with the environment of production."""
    assert settings.auth.jwt_secret_key is not None
    environment = {
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "DATABASE_URL": str(settings.database.url),
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
        "JWT_SECRET_KEY": settings.auth.jwt_secret_key.get_secret_value(),
        "PARLEY_HOME": str(home),
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.process
def test_worker_registers_exactly_the_jobs_of_the_catalogue(settings: Settings, tmp_path: Path) -> None:
    done = run_script(settings, tmp_path, PRINT_CONFIGURATION, WORKER_CONCURRENCY="3")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    limits = {job.name: [job.time_limit.total_seconds(), job.time_limit.total_seconds() + 10] for job in JOBS}
    assert printed["jobs"] == limits
    options = printed["conf"].pop("broker_transport_options")
    assert options["visibility_timeout"] > max(hard for _, hard in limits.values())
    assert printed["conf"] == {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "accept_content": ["json"],
        "broker_connection_retry_on_startup": True,
        "worker_concurrency": 3,
        "timezone": "UTC",
        "result_backend": None,
    }


@pytest.mark.process
@pytest.mark.parametrize("module", ["tasks.worker", "tasks.beat"])
def test_invalid_setting_is_one_line(settings: Settings, tmp_path: Path, module: str) -> None:
    done = run_script(settings, tmp_path, f"import {module}", CELERY_BROKER_URL="sqla+sqlite:///secret")
    assert done.returncode == 1
    assert re.fullmatch(r"parley: CELERY_BROKER_URL: .*must look like redis://.*\n", done.stderr)
    assert "secret" not in done.stderr


@pytest.mark.process
def test_beat_needs_no_database(settings: Settings, tmp_path: Path) -> None:
    script = "from tasks.beat import celery_app; print(sorted(celery_app.conf.beat_schedule))"
    done = run_script(settings, tmp_path, script, DATABASE_URL="", JWT_SECRET_KEY="")
    assert done.stdout.strip() == str(sorted(job.name for job in JOBS if job.schedule)), done.stderr
    assert not (tmp_path / "postgres").exists()
