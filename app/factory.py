"""The factory of the web application: its extensions, request handlers and routes, in order."""

from collections.abc import Iterable
from datetime import timedelta

from flask import Flask

from app.api import (
    account_changes,
    auth,
    body_limits,
    chat,
    compression,
    conversations,
    cors,
    docs,
    errors,
    exports,
    files,
    health,
    home,
    in_flight,
    keys,
    limits,
    mcp,
    metrics,
    models,
    openapi,
    password_resets,
    projects,
    prompts,
    request_ids,
    request_metrics,
    security,
    sessions,
    todos,
    turns,
)
from app.api.blueprint import Blueprint
from app.api.json_provider import JSONProvider
from app.config import Settings
from app.container import services
from app.core import create_core_app
from app.database import current_engine
from app.errors import SettingsError
from app.http_extensions import api, jwt
from app.instrumented_engines import instrumented_engines
from app.jobs import import_celery
from app.metrics.registry import create_metrics
from app.prepared_statements import prepare
from app.repositories import prepared_turns
from app.services.signing_keys import ALGORITHM, SigningKeys

BLUEPRINTS: tuple[Blueprint, ...] = (
    home.blueprint,
    health.blueprint,
    metrics.blueprint,
    auth.public_blueprint,
    auth.blueprint,
    account_changes.blueprint,
    account_changes.receipts_blueprint,
    password_resets.blueprint,
    sessions.blueprint,
    keys.blueprint,
    chat.blueprint,
    turns.blueprint,
    turns.events_blueprint,
    conversations.blueprint,
    exports.blueprint,
    projects.blueprint,
    prompts.blueprint,
    todos.blueprint,
    files.blueprint,
    files.project_blueprint,
    models.blueprint,
    openapi.blueprint,
    docs.blueprint,
    mcp.blueprint,
    mcp.metadata_blueprint,
)


def create_app(settings: Settings, blueprints: Iterable[Blueprint] = ()) -> Flask:
    """Build the web application: the core application with the HTTP API.

    `blueprints` are further ones, such as the admin API of `ops`. Raises `SettingsError` if a setting is missing that
    has no default.
    """
    create_metrics()
    import_celery()  # now: the first request that enqueues a job would wait for the import
    flask_app = create_core_app(settings, instrumented_engines)
    _configure(flask_app, settings)

    # 1. Services and extensions
    with flask_app.app_context():
        process = services()
        if settings.database.prepare:
            prepare(current_engine(), prepared_turns.STATEMENTS, prepared_turns.TYPES)
    jwt.init_app(flask_app)
    openapi.init_app(flask_app)

    # 2. Handlers around every request
    request_ids.init_app(flask_app)
    errors.init_app(flask_app)
    security.init_app(flask_app, settings.server.trusted_proxies)
    body_limits.init_app(flask_app, settings.server.max_body_bytes, settings.files.max_file_bytes)
    cors.init_app(flask_app, settings.server.cors_origins, settings.server.cors_headers)
    mcp.init_app(flask_app, settings.server)
    in_flight.init_app(flask_app, settings.server)
    limits.init_app(flask_app, settings.limits, process.counters)
    compression.init_app(flask_app)
    request_metrics.init_app(flask_app)

    # 3. Routes
    for blueprint in (*BLUEPRINTS, *blueprints):
        (api if blueprint.documented else flask_app).register_blueprint(blueprint)
    openapi.publish(flask_app)
    return flask_app


def _configure(flask_app: Flask, settings: Settings) -> None:
    if settings.auth.jwt_secret_key is None:
        raise SettingsError("JWT_SECRET_KEY: set it to at least 32 random characters")
    flask_app.json = JSONProvider(flask_app)
    flask_app.config.update(
        JWT_SECRET_KEY=settings.auth.jwt_secret_key.get_secret_value(),
        JWT_SIGNING_KEYS=SigningKeys(
            settings.auth.jwt_secret_key.get_secret_value(),
            [key.get_secret_value() for key in settings.auth.jwt_previous_keys],
        ),
        JWT_ALGORITHM=ALGORITHM,
        JWT_DECODE_ALGORITHMS=[ALGORITHM],
        JWT_TOKEN_LOCATION=["headers"],
        JWT_ENCODE_ISSUER="parley",
        JWT_DECODE_ISSUER="parley",
        JWT_ENCODE_AUDIENCE="parley",
        JWT_DECODE_AUDIENCE="parley",
        JWT_COOKIE_CSRF_PROTECT=False,  # no cookies, so tokens need no CSRF claim
        JWT_DECODE_LEEWAY=10,  # seconds that the clocks of two hosts may differ
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(minutes=settings.auth.access_token_minutes),
        JWT_REFRESH_TOKEN_EXPIRES=timedelta(days=settings.auth.refresh_token_days),
        API_TITLE="Parley",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
    )
