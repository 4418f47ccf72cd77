"""Settings in, application out: what every process that holds the application does first.

With no DATABASE_URL the application is on the embedded PostgreSQL, and with no CELERY_BROKER_URL either, its jobs go to
the embedded Redis; each starts when it is first used.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from pydantic import SecretStr

from app.config import Settings, load_settings
from app.errors import ParleyError
from app.logs import configure_logging
from ops import embedded

if TYPE_CHECKING:  # imported when it is built: metrics that are shared must be arranged for before
    from click import Command
    from flask import Flask

    from app.api.blueprint import Blueprint

_LEASES: list[embedded.Lease] = []  # a lease lasts as long as it is held


def settings_or_exit() -> Settings:
    """The settings, with logging set up as they say; a wrong one ends the process with one line for each."""
    try:
        settings = load_settings()
    except ParleyError as error:
        end_process(error)
    configure_logging(settings.server.log_level)
    return settings


def application_or_exit(
    settings: Settings, blueprints: "Iterable[Blueprint]" = (), commands: "Iterable[Command]" = ()
) -> "Flask":
    """The application on the configured servers or the embedded ones; without one, the process ends with a line."""
    try:
        return _build(settings, blueprints, commands)
    except ParleyError as error:
        end_process(error)


def broker_url(settings: Settings) -> str:
    """The broker's URL; without CELERY_BROKER_URL that of the embedded Redis, leased until the process ends.

    Raises `EmbeddedError` where that cannot be had.
    """
    if settings.jobs.broker_url is not None:
        return settings.jobs.broker_url.get_secret_value()
    _LEASES.append(embedded.lease_redis(settings.server.home))
    return _LEASES[-1].url


def end_process(error: ParleyError) -> NoReturn:
    """End with the error's lines: a wrong setting is the reader's to mend, and a traceback is no help."""
    sys.stderr.writelines(f"parley: {line}\n" for line in error.detail.splitlines())
    sys.exit(2 if "ops" in sys.argv[1:] else 1)  # from `flask ops`, 1 would say that there are warnings


def _build(settings: Settings, blueprints: "Iterable[Blueprint]", commands: "Iterable[Command]") -> "Flask":
    from app.factory import create_app

    home, configured = settings.server.home, settings.database.url is not None
    if not configured:
        secret = settings.auth.jwt_secret_key or SecretStr(embedded.jwt_secret(home))
        settings = replace(
            settings,
            database=settings.database.model_copy(update={"url": embedded.URL_WHEN_STARTED}),
            auth=settings.auth.model_copy(update={"jwt_secret_key": secret}),
        )
    flask_app = create_app(settings, blueprints, commands)
    if not configured:
        embedded.start_when_used(flask_app, home)
        if settings.jobs.broker_url is None:
            flask_app.extensions["jobs"].broker = lambda: broker_url(settings)
    return flask_app
