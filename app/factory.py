"""`create_app`: reads as four short lists in order, and contains no route, SQL or handler."""

from collections.abc import Iterable
from datetime import timedelta

from click import Command
from flask import Flask
from sqlalchemy import event

from app import jobs
from app.api import (
    auth,
    bodies,
    chat,
    compression,
    conversations,
    cors,
    docs,
    errors,
    exports,
    health,
    keys,
    limits,
    measuring,
    metrics,
    models,
    openapi,
    projects,
    prompts,
    request_ids,
    security,
    turns,
)
from app.api.blueprint import Blueprint
from app.config import Settings
from app.database import binds, connect_in_time, engine_options
from app.errors import SettingsError
from app.extensions import api, db, jwt, migrate
from app.prepared import prepare
from app.providers.registry import ProviderRegistry
from app.repositories import every_turn
from app.services.attempts import Attempts
from app.services.container import Services
from app.services.key_uses import KeyUses
from app.services.limit_counters import limit_counters
from app.services.models import ModelLists
from app.services.passwords import PasswordHasher
from app.services.provider_choice import ProviderChoices
from app.services.runtime_settings import RuntimeSettings
from app.services.search_requests import IndexRequests
from app.services.signing_keys import ALGORITHM, SigningKeys
from app.services.turns import TurnEngine
from app.tracing import trace

BLUEPRINTS: tuple[Blueprint, ...] = (
    health.blueprint,
    metrics.blueprint,
    auth.public_blueprint,
    auth.blueprint,
    keys.blueprint,
    chat.blueprint,
    turns.blueprint,
    conversations.blueprint,
    exports.blueprint,
    projects.blueprint,
    prompts.blueprint,
    models.blueprint,
    openapi.blueprint,
    docs.blueprint,
)


def create_app(settings: Settings, blueprints: Iterable[Blueprint] = (), commands: Iterable[Command] = ()) -> Flask:
    """Build the application.

    `blueprints` and `commands` are what stands above `app` and is handed in (the ops API and command line).
    Raises `SettingsError` where a setting is missing that cannot have a default.
    """
    flask_app = Flask("app", static_folder=None)
    _configure(flask_app, settings)

    # 1. Extensions
    db.init_app(flask_app)
    migrate.init_app(flask_app, db, directory="migrations")
    jwt.init_app(flask_app)
    openapi.init_app(flask_app)
    jobs.init_app(flask_app, settings.jobs.broker_url)

    # 2. What the process holds
    _hold(flask_app, settings)

    # 3. Handlers around every request
    request_ids.init_app(flask_app)
    errors.init_app(flask_app)
    security.init_app(flask_app, settings.server.trusted_proxies)
    bodies.init_app(flask_app, settings.server.max_body_bytes)
    cors.init_app(flask_app, settings.server.cors_origins)
    limits.init_app(flask_app, settings.limits, flask_app.extensions["parley"].counters)
    compression.init_app(flask_app)
    measuring.init_app(flask_app)

    # 4. Routes and commands
    for blueprint in (*BLUEPRINTS, *blueprints):
        api.register_blueprint(blueprint)
    openapi.publish(flask_app)
    for command in commands:
        flask_app.cli.add_command(command)
    return flask_app


def _configure(flask_app: Flask, settings: Settings) -> None:
    if settings.database.url is None:
        raise SettingsError("DATABASE_URL: the application needs a database; `make up` starts an embedded one")
    if settings.auth.jwt_secret_key is None:
        raise SettingsError("JWT_SECRET_KEY: set it to at least 32 random characters")
    flask_app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    flask_app.config.update(
        SQLALCHEMY_DATABASE_URI=settings.database.url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings.database),
        SQLALCHEMY_BINDS=binds(settings.database),
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
        JWT_COOKIE_CSRF_PROTECT=False,  # no cookies, so no claim for them in every token
        JWT_DECODE_LEEWAY=10,  # seconds; two hosts' clocks differ, and a token from the future would be refused
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(minutes=settings.auth.access_token_minutes),
        JWT_REFRESH_TOKEN_EXPIRES=timedelta(days=settings.auth.refresh_token_days),
        API_TITLE="Parley",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
    )


def _hold(flask_app: Flask, settings: Settings) -> None:
    providers = ProviderRegistry(settings.provider)
    with flask_app.app_context():
        engine, beats = db.engine, db.engines["heartbeats"]
        for each in db.engines.values():
            trace(each)
            event.listen(each, "do_connect", connect_in_time(settings.database.connect_timeout))
        if settings.database.prepares:
            prepare(engine, every_turn.STATEMENTS, every_turn.TYPES)
    counters = limit_counters(settings, flask_app.extensions["jobs"])
    secret: str = flask_app.config["JWT_SECRET_KEY"]
    runtime = RuntimeSettings(engine)
    choices = ProviderChoices(providers, runtime)
    flask_app.extensions["parley"] = Services(
        settings=settings,
        providers=providers,
        passwords=PasswordHasher(queue=settings.auth.password_queue),
        turns=TurnEngine(
            engine,
            providers,
            settings.chat,
            choices,
            IndexRequests(flask_app.extensions["jobs"]).add,
            beats=beats,
        ),
        key_uses=KeyUses(engine),
        counters=counters,
        attempts=Attempts(counters, settings.limits, secret),
        runtime=runtime,
        choices=choices,
        models=ModelLists(providers, choices),
    )
