"""Fixtures for everybody: a migrated database per worker, the application on it, and accounts to be.

Tests never clean up: each makes its own users, and everything a user owns is out of the others' reach by its key.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import flask_migrate
import hypothesis
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine

from app.config import GROUPS, Settings, load_settings
from app.extensions import db
from app.factory import create_app
from tests import limits
from tests.database import fresh_database, remove_run_folders, run_folder, server_url
from tests.factories import Account, make_account

# Whoever runs the tests in the background of a shell has Ctrl-C ignored in all that comes of it.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine than about what is tested.
hypothesis.settings.register_profile(
    "no stopwatch", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no stopwatch")

os.environ.pop("DATABASE_URL", None)  # the suite never touches a database that it was not given as TEST_DATABASE_URL


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of an `xdist_group` in one worker: pytest-xdist 3.8 notes the group in `_nodeid`, which pytest 9.2
    no longer reads. Without this each worker makes what a group was to make once."""
    for item in items:
        if "_nodeid" in vars(item):
            item._id = type(item._id).parse(item._nodeid)


def pytest_configure() -> None:
    run_folder()  # named before the workers are started


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """The servers have ended with the workers; what they wrote would fill the disk, run by run."""
    remove_run_folders()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of the server that the whole run shares."""
    with server_url(run_folder()) as url:
        yield url


@pytest.fixture(scope="session")
def database_url(postgres: str, worker_id: str, testrun_uid: str, shared_home: Path) -> Iterator[str]:
    """URL of this worker's own database, migrated, whichever test comes first."""
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}") as url:
        with create_app(usual_settings(url, shared_home)).app_context():
            flask_migrate.upgrade(directory=str(Path(__file__).parents[1] / "migrations"))
            db.engine.dispose()
        yield url


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this worker's applications keep their files."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def settings(database_url: str, shared_home: Path) -> Settings:
    """The defaults, on this worker's database; nothing of the developer's environment."""
    return usual_settings(database_url, shared_home)


def usual_settings(database_url: str, home: Path) -> Settings:
    """Those of `settings`, for a database that may not be ready yet."""
    with pytest.MonkeyPatch.context() as patch:
        for group in GROUPS.values():
            for field in group.model_fields.values():
                patch.delenv(str(field.validation_alias), raising=False)
        loaded = load_settings(env_file=None)
    return replace(
        loaded,
        chat=loaded.chat.model_copy(update={"max_running_per_user": 0}),
        limits=loaded.limits.model_copy(update=dict.fromkeys(limits.NAMES, 0)),
        server=loaded.server.model_copy(update={"home": home}),
        database=loaded.database.model_copy(update={"url": database_url}),
        auth=loaded.auth.model_copy(update={"jwt_secret_key": SecretStr("a-secret-for-tests-only-0123456789abcdef")}),
    )


@pytest.fixture(scope="session")
def flask_app(settings: Settings) -> Iterator[Flask]:
    """The application, on a migrated database."""
    flask_app = create_app(settings)
    flask_app.testing = False  # errors are answered as they are for everybody
    with flask_app.app_context():
        engine = db.engine
    yield flask_app
    engine.dispose()


@pytest.fixture(scope="session")
def engine(flask_app: Flask) -> Engine:
    """The application's own engine."""
    with flask_app.app_context():
        return db.engine


@pytest.fixture
def client(flask_app: Flask) -> FlaskClient:
    return flask_app.test_client()


@pytest.fixture
def make_user(flask_app: Flask, engine: Engine) -> Callable[..., Account]:
    """A function that makes a user with an open session; keyword arguments are columns of `users`."""
    return lambda **overrides: make_account(flask_app, engine, **overrides)


@pytest.fixture
def user(make_user: Callable[..., Account]) -> Account:
    return make_user()


@pytest.fixture
def other_user(make_user: Callable[..., Account]) -> Account:
    return make_user()
