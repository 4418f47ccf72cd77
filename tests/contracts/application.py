"""The application as `wsgi.py` builds it, with a test's settings."""

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
from ops.server import composition

ROOT = Path(__file__).parents[2]
OPS_TOKEN = "monitoring-token-of-the-tests"


def as_served(settings: Settings) -> Flask:
    """Return the application that `wsgi.py` builds with these settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composition, "load_process_settings", lambda: settings)
        return cast(Flask, runpy.run_path(str(ROOT / "wsgi.py"))["flask_app"])


def offline_settings() -> Settings:
    """Return settings for an application that never connects."""
    settings = load_settings(env_file=None)
    return replace(
        settings,
        database=settings.database.model_copy(update={"url": "postgresql+psycopg2://user@127.0.0.1:1/none"}),
        auth=settings.auth.model_copy(update={"jwt_secret_key": SecretStr("x" * 32)}),
    )


def offline() -> Flask:
    """Return an application for its routes and its description only."""
    return as_served(offline_settings())


def path_of(rule: Rule) -> str:
    """Return the path of a rule in OpenAPI's syntax."""
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)


def blueprint_of(flask_app: Flask, rule: Rule) -> Blueprint:
    """Return the blueprint of a rule, and fail if it is not a `Blueprint` of `app.api`."""
    blueprint = flask_app.blueprints.get(rule.endpoint.rpartition(".")[0])
    assert isinstance(blueprint, Blueprint), f"{rule.rule} declares no access: use app.api.blueprint.Blueprint"
    return blueprint


def with_ops_token(settings: Settings) -> Settings:
    """Return the settings with the OPS_TOKEN of the tests."""
    return replace(settings, server=settings.server.model_copy(update={"ops_token": SecretStr(OPS_TOKEN)}))
