"""The application of a process, created from its settings.

Without DATABASE_URL the application uses the embedded PostgreSQL, and without CELERY_BROKER_URL too, its jobs go to the
embedded Redis. Each server starts when it is first used.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from app.config import Settings, load_settings
from app.errors import ParleyError
from app.logs import configure_logging

if TYPE_CHECKING:  # imported when an application is created; beat creates none
    from flask import Flask

    from app.api.blueprint import Blueprint
    from ops.embedded import Lease

_LEASES: "list[Lease]" = []  # held until the process ends


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the process with exit code 1 and the lines of a `ParleyError`: a wrong setting needs no traceback."""
    try:
        yield
    except ParleyError as error:
        sys.stderr.writelines(f"parley: {line}\n" for line in error.detail.splitlines())
        sys.exit(1)


def load_process_settings() -> Settings:
    """Load the settings and configure logging. Raises `SettingsError` with one line per wrong setting."""
    settings = load_settings()
    configure_logging(settings.server.log_level)
    return settings


def create_web_app(settings: Settings, blueprints: "Iterable[Blueprint]" = ()) -> "Flask":
    """Create the web application on the configured or embedded servers. Raises `ParleyError`."""
    from app.factory import create_app

    return _with_embedded_servers(create_app(_with_embedded_database(settings), blueprints), settings)


def create_core_app(settings: Settings) -> "Flask":
    """Create the application of commands, without the API and without metrics. Raises `ParleyError`."""
    from app.core import create_core_app

    return _with_embedded_servers(create_core_app(_with_embedded_database(settings)), settings)


def create_worker_app(settings: Settings) -> "Flask":
    """Create the application of workers: the core application with metrics. Raises `ParleyError`."""
    from app.core import create_core_app
    from app.instrumented_engines import instrumented_engines

    flask_app = create_core_app(_with_embedded_database(settings), instrumented_engines)
    return _with_embedded_servers(flask_app, settings)


def broker_url(settings: Settings) -> str:
    """Return the broker's URL; without CELERY_BROKER_URL that of the embedded Redis, leased until the process ends.

    Raises `EmbeddedError` if it cannot be started.
    """
    if settings.jobs.broker_url is not None:
        return settings.jobs.broker_url.get_secret_value()
    from ops.embedded import lease_redis  # not needed with configured servers

    _LEASES.append(lease_redis(settings.server.home))
    return _LEASES[-1].url


def _with_embedded_database(settings: Settings) -> Settings:
    """Return the settings with the URL and the signing key of the embedded database, if no other is configured."""
    if settings.database.url is not None:
        return settings
    from ops.embedded import URL_WHEN_STARTED, jwt_secret

    secret = settings.auth.jwt_secret_key or SecretStr(jwt_secret(settings.server.home))
    return replace(
        settings,
        database=settings.database.model_copy(
            update={"url": URL_WHEN_STARTED, "folder": settings.database.folder or settings.server.home}
        ),
        auth=settings.auth.model_copy(update={"jwt_secret_key": secret}),
    )


def _with_embedded_servers(flask_app: "Flask", settings: Settings) -> "Flask":
    if settings.database.url is None:
        from ops.embedded import start_on_first_connection

        start_on_first_connection(flask_app, settings.server.home)
        if settings.jobs.broker_url is None:
            flask_app.extensions["jobs"].broker = lambda: broker_url(settings)
    return flask_app
