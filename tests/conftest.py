"""Shared fixtures: a migrated database per worker, the application on it, and users.

Tests do not clean up: each creates its own users, and all rows of a user are keyed by the user.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from tests.database import migrated_database, remove_run_folders, run_folder, server_url
from tests.factories import LoggedInUser, insert_user
from tests.settings import make_settings

MAX_WORKERS = 4
TESTS_PER_WORKER = 60

# A shell ignores SIGINT in background jobs, and child processes inherit that.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadlines: the time of an example depends on the load of the machine.
hypothesis.settings.register_profile(
    "no deadline", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no deadline")

os.environ.pop("DATABASE_URL", None)  # the tests use only the server of TEST_DATABASE_URL, or their own


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of an `xdist_group` in one worker.

    pytest-xdist 3.8 appends the group to `_nodeid`, which pytest 9.2 no longer reads.
    """
    for item in items:
        if "_nodeid" in vars(item):
            item._id = type(item._id).parse(item._nodeid)  # type: ignore[attr-defined]  # set by pytest-xdist


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers for `-n auto`: each takes seconds to start, so few tests run in this process."""
    names = [str(argument).partition("::")[0] for argument in config.args]
    paths = [
        path for name in names for path in ([Path(name)] if name.endswith(".py") else Path(name).rglob("test_*.py"))
    ]
    tests = sum(path.read_text().count("\ndef test_") for path in paths if path.is_file())
    return 0 if tests <= TESTS_PER_WORKER else min(MAX_WORKERS, tests // TESTS_PER_WORKER)


def pytest_configure() -> None:
    run_folder()  # sets its name before the workers start


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Remove the files of the servers, which have stopped with the workers."""
    remove_run_folders()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Yield the URL of the server that all workers share."""
    with server_url(run_folder()) as url:
        yield url


@pytest.fixture(scope="session")
def database_url(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """Yield the URL of this worker's migrated database."""
    with migrated_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}") as url:
        yield url


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home folder of this worker's applications."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def settings(database_url: str, shared_home: Path) -> Settings:
    """Return the default settings with this worker's database, independent of the environment."""
    return make_settings(database_url, shared_home)


@pytest.fixture(scope="session")
def flask_app(settings: Settings) -> Iterator[Flask]:
    """Yield the web application on the migrated database."""
    flask_app = create_app(settings)
    flask_app.testing = False  # errors are rendered as in production
    with flask_app.app_context():
        engine = db.engine
    yield flask_app
    engine.dispose()


@pytest.fixture(scope="session")
def engine(flask_app: Flask) -> Engine:
    """Return the application's engine."""
    with flask_app.app_context():
        return db.engine


@pytest.fixture
def client(flask_app: Flask) -> FlaskClient:
    return flask_app.test_client()


@pytest.fixture
def make_user(flask_app: Flask, engine: Engine) -> Callable[..., LoggedInUser]:
    """Return a function that creates a user with an open session; keyword arguments are columns of `users`."""
    return lambda **overrides: insert_user(flask_app, engine, **overrides)


@pytest.fixture
def user(make_user: Callable[..., LoggedInUser]) -> LoggedInUser:
    return make_user()


@pytest.fixture
def other_user(make_user: Callable[..., LoggedInUser]) -> LoggedInUser:
    return make_user()
