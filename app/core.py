"""The application without HTTP, for commands and Celery workers; `factory.create_app` adds the API."""

from collections.abc import Callable, Mapping

from flask import Flask
from sqlalchemy import Engine

from app import container, database, jobs
from app.config import Database, Settings
from app.errors import SettingsError

CreateEngines = Callable[[Flask, Database], Mapping[str, Engine]]


def create_core_app(settings: Settings, create_engines: CreateEngines = database.plain_engines) -> Flask:
    """Build an application with settings, database and job queue. Raises `SettingsError` without DATABASE_URL.

    Processes that serve requests or jobs pass `instrumented_engines`; commands have no metrics and start faster.
    """
    if settings.database.url is None:
        raise SettingsError("DATABASE_URL: the application needs a database; `make up` starts an embedded one")
    flask_app = Flask("app", static_folder=None)
    container.init_app(flask_app, settings)
    database.init_app(flask_app, create_engines(flask_app, settings.database))
    jobs.init_app(flask_app, settings.jobs.broker_url)
    return flask_app
