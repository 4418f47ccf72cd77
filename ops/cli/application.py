"""The applications that commands run in."""

from pathlib import Path

from flask import Flask

from app.config import load_settings
from app.logs import configure_logging
from ops.server.composition import create_core_app, exit_on_error

MIGRATIONS = Path(__file__).parents[2] / "migrations"


def create_command_app() -> Flask:
    """Create the core application. INFO log lines are hidden, because they would repeat the command's own output.

    Raises `SettingsError`.
    """
    settings = load_settings()
    level = settings.server.log_level
    configure_logging("WARNING" if level == "INFO" else level)
    return create_core_app(settings)


def create_migration_app() -> Flask:
    """Create the core application with Flask-Migrate; a wrong setting ends the process with one line."""
    from flask_migrate import Migrate

    from app.extensions import db

    with exit_on_error():
        settings = load_settings()
        configure_logging(settings.server.log_level)
        flask_app = create_core_app(settings)
    Migrate(flask_app, db, directory=MIGRATIONS)
    return flask_app
