"""The composition root: settings in, application out. gunicorn serves `flask_app`, the `flask` command finds it."""

import sys
from dataclasses import replace

from flask import Flask
from pydantic import SecretStr

from app.config import load_settings
from app.errors import SettingsError
from app.factory import create_app
from app.logs import configure_logging
from ops import embedded


def build() -> Flask:
    """The application on the configured database or, without one, on the embedded one, which starts when first used."""
    settings = load_settings()
    configure_logging(settings.server.log_level)
    if settings.database.url is not None:
        return create_app(settings)
    home = settings.server.home
    secret = settings.auth.jwt_secret_key or SecretStr(embedded.jwt_secret(home))
    settings = replace(
        settings,
        database=settings.database.model_copy(update={"url": embedded.URL_WHEN_STARTED}),
        auth=settings.auth.model_copy(update={"jwt_secret_key": secret}),
    )
    flask_app = create_app(settings)
    embedded.start_when_used(flask_app, home)
    return flask_app


try:
    flask_app = build()
except SettingsError as error:
    # A wrong setting is the reader's to mend: lines, not a traceback.
    sys.exit("\n".join(f"parley: {line}" for line in error.detail.splitlines()))
