"""The environment of the processes: servers, secrets and a migrated database."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from app.config import Settings
from app.errors import DatabaseUnavailable, SettingsError
from ops.backup.store import embedded_backup_folder
from ops.embedded import Lease, jwt_secret, lease_postgres, lease_redis
from ops.embedded.parent_death import signal_on_parent_death
from ops.up.steps import step

DEMO_PAUSE_MS = 30  # a readable pace: about 30 words per second
MIGRATION_SECONDS = 3600  # for a large database; a blocked migration ends earlier, by its lock_timeout


def lease_servers(settings: Settings, servers: ExitStack) -> dict[str, Lease]:
    """Lease the servers that no setting names, by their name; they are closed with `servers`.

    Raises `SettingsError` for DATABASE_URL without JWT_SECRET_KEY, and `EmbeddedError` if a server cannot be started.
    """
    if settings.database.url is not None and settings.auth.jwt_secret_key is None:
        raise SettingsError(
            "JWT_SECRET_KEY: required with DATABASE_URL; create one with `openssl rand -hex 32` and store it in .env"
        )
    leases: dict[str, Lease] = {}
    if settings.database.url is None:
        exists = (settings.server.home / "postgres").exists()
        with step("Starting PostgreSQL" if exists else "Creating and starting PostgreSQL", sys.stdout):
            leases["postgres"] = servers.enter_context(lease_postgres(settings.server.home))
    if settings.jobs.broker_url is None:
        with step("Starting Redis", sys.stdout):
            leases["redis"] = servers.enter_context(lease_redis(settings.server.home))
    return leases


def prepare_environment(settings: Settings, leases: Mapping[str, Lease]) -> dict[str, str]:
    """Return the environment of the processes: that of this process, and what the leased servers need."""
    environment = dict(os.environ)
    home = settings.server.home
    if "postgres" in leases:
        environment["DATABASE_URL"] = leases["postgres"].url
        if settings.auth.jwt_secret_key is None:
            environment["JWT_SECRET_KEY"] = jwt_secret(home)
        if settings.backups.url is None:
            environment["BACKUP_URL"] = embedded_backup_folder(home).as_uri()
    if "redis" in leases:
        environment["CELERY_BROKER_URL"] = leases["redis"].url
    if "demo_pause_ms" not in settings.provider.model_fields_set:
        environment["DEMO_PAUSE_MS"] = str(DEMO_PAUSE_MS)
    return environment


def migrate(environment: dict[str, str]) -> None:
    """Run `flask db upgrade`. Raises `DatabaseUnavailable` with the line of its output that gives the reason."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "db", "upgrade"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=MIGRATION_SECONDS,
        preexec_fn=signal_on_parent_death(signal.SIGTERM),  # only makes system calls
        check=False,
    )
    if done.returncode != 0:
        raise DatabaseUnavailable(f"`flask db upgrade` failed, so nothing was started: {_reason(done.stderr)}")


def _reason(stderr: str) -> str:
    """Return the message of the last line that names an exception, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["no output"]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\w*: ", line)]
    return re.sub(r"^[\w.]+: (\([\w.]+\) )?", "", (named or lines)[-1])
