"""The application as `wsgi.py` builds it, with settings of a test's own."""

import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from flask import Flask
from pydantic import SecretStr
from werkzeug.routing import Rule

from app.api.blueprint import Blueprint
from app.config import Settings, load_settings
from ops import composition

ROOT = Path(__file__).parents[2]
OPS_TOKEN = "for-whoever-watches-the-server"


def as_served(settings: Settings) -> Flask:
    """What `wsgi.py` makes of these settings, with everything that it hands in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composition, "settings_or_exit", lambda: settings)
        return cast(Flask, runpy.run_path(str(ROOT / "wsgi.py"))["flask_app"])


def offline_settings() -> Settings:
    """Enough for an application that never connects."""
    settings = load_settings(env_file=None)
    return replace(
        settings,
        database=settings.database.model_copy(update={"url": "postgresql+psycopg2://nobody@127.0.0.1:1/none"}),
        auth=settings.auth.model_copy(update={"jwt_secret_key": SecretStr("x" * 32)}),
    )


def offline() -> Flask:
    """For its routes and its description."""
    return as_served(offline_settings())


def path_of(rule: Rule) -> str:
    """A route as OpenAPI writes it."""
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)


def blueprint_of(flask_app: Flask, rule: Rule) -> Blueprint:
    """The blueprint that a route belongs to; fails for one that belongs to none of ours."""
    blueprint = flask_app.blueprints.get(rule.endpoint.rpartition(".")[0])
    assert isinstance(blueprint, Blueprint), f"{rule.rule} declares no access: register it with our Blueprint"
    return blueprint


def with_ops_token(settings: Settings) -> Settings:
    """These settings, with an OPS_TOKEN that is known here."""
    return replace(settings, server=settings.server.model_copy(update={"ops_token": SecretStr(OPS_TOKEN)}))
