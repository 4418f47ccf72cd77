"""What the processes need to find: servers, secrets, and a database with the newest tables."""

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack

from app.config import Settings
from app.errors import DatabaseUnavailable, SettingsError
from ops.backup.stores.opening import embedded_folder
from ops.embedded import jwt_secret, lease_postgres, lease_redis
from ops.embedded.parent_death import dying_with_parent

MIGRATION_SECONDS = 3600  # a long one on a large database; a stuck one ends by its own lock_timeout


def prepare_environment(settings: Settings, servers: ExitStack) -> dict[str, str]:
    """The environment of the processes. Embedded servers are leased as needed and closed with `servers`.

    Raises `SettingsError` where a database of your own comes without a signing key, `EmbeddedError` where an embedded
    server cannot be had.
    """
    environment = dict(os.environ)
    home = settings.server.home
    if settings.database.url is None:
        environment["DATABASE_URL"] = servers.enter_context(lease_postgres(home)).url
        if settings.auth.jwt_secret_key is None:
            environment["JWT_SECRET_KEY"] = jwt_secret(home)
        if settings.backups.url is None:
            environment["BACKUP_URL"] = embedded_folder(home).as_uri()
    elif settings.auth.jwt_secret_key is None:
        raise SettingsError(
            "JWT_SECRET_KEY: DATABASE_URL is set, so this must be too; `openssl rand -hex 32` makes one to keep in .env"
        )
    if settings.jobs.broker_url is None:
        environment["CELERY_BROKER_URL"] = servers.enter_context(lease_redis(home)).url
    return environment


def migrate(environment: dict[str, str]) -> None:
    """Run `flask db upgrade`. Raises `DatabaseUnavailable` with the line that says best why it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi:flask_app", "db", "upgrade"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=MIGRATION_SECONDS,
        preexec_fn=dying_with_parent(signal.SIGTERM),  # it only makes system calls
        check=False,
    )
    if done.returncode != 0:
        raise DatabaseUnavailable(f"`flask db upgrade` failed, so nothing was started: {_reason(done.stderr)}")


def _reason(stderr: str) -> str:
    """The last line that names an exception, else the last line; without the names of classes before the message."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["it said nothing"]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\w*: ", line)]
    return re.sub(r"^[\w.]+: (\([\w.]+\) )?", "", (named or lines)[-1])
