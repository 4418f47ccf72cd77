"""A separate installation and database for each test of the doctor."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import NullPool, create_engine, make_url, text

import app.models  # noqa: F401  # registers all tables
from app.config import Settings
from app.extensions import db
from app.factory import create_app
from ops.checks.run import CheckResult
from ops.cli.entry_points import ops
from ops.doctor import run
from ops.doctor.registry import CHECKS
from tests.database import fresh_database, migrated_database
from tests.ops.installation import DatabaseInstallation, connecting, run_on

_NUMBERS = itertools.count()


@dataclass
class DoctorInstall(DatabaseInstallation):
    """An installation for the doctor to check."""

    flask_app: Flask

    def run_check(self, check: str) -> CheckResult:
        """Run one check and return its result."""
        with self.flask_app.app_context():
            (result,) = run.run_doctor(checks=[candidate for candidate in CHECKS if candidate.id == check]).results
        return result

    def call(self, *arguments: str, **options: Any) -> Result:
        """Run `flask ops` with these arguments."""
        return self.flask_app.test_cli_runner().invoke(ops, list(arguments), **options)


@pytest.fixture(scope="session")
def template(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """Create a template database: the migrated schema, empty. Yields its name."""
    name = f"parley_{testrun_uid[:8]}_{worker_id}_template"
    with migrated_database(postgres, name) as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_stat_statements"))
        yield name


@contextmanager
def open_install(url: str, settings: Settings, changes: Mapping[str, Mapping[str, Any]]) -> Iterator[DoctorInstall]:
    """Create an installation on the database at `url`; `changes` are groups of settings."""
    changed = {"database": {"url": url}, **changes}
    groups = {name: getattr(settings, name).model_copy(update=dict(update)) for name, update in changed.items()}
    settings = replace(settings, **groups)
    flask_app = create_app(settings)
    with connecting(url, settings) as connect:
        owner = connect()
        run_on(owner, "SET statement_timeout = 0", "SET idle_in_transaction_session_timeout = 0")
        yield DoctorInstall(url, settings, owner, connect, flask_app)
        with flask_app.app_context():
            for engine in db.engines.values():
                engine.dispose()


@pytest.fixture
def url(postgres: str, template: str) -> Iterator[str]:
    """Create a database for one test. Yields its URL."""
    with fresh_database(postgres, f"{template}_{next(_NUMBERS)}", template=template) as url:
        yield url


@pytest.fixture(scope="module")
def shared_url(postgres: str, template: str) -> Iterator[str]:
    """Create a database for the tests of a module. A fixture `url` of the module returns it."""
    with fresh_database(postgres, f"{template}_{next(_NUMBERS)}", template=template) as url:
        yield url


@pytest.fixture
def make_install(url: str, settings: Settings) -> Iterator[Callable[..., DoctorInstall]]:
    """Return a function that creates an installation on the test's database; its keywords are groups of settings."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(open_install(url, settings, changes))


@pytest.fixture
def install(make_install: Callable[..., DoctorInstall]) -> DoctorInstall:
    """Create an installation with the default settings."""
    return make_install()


@pytest.fixture
def role(install: DoctorInstall) -> Iterator[str]:
    """Create a role that may only connect; its password is its name."""
    name = f"role_{make_url(install.url).database}"
    run_on(install.owner, f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{name}'")
    yield name
    run_on(install.owner, f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')


def as_role(url: str, role: str) -> str:
    """Return `url` with that role."""
    return make_url(url).set(username=role, password=role).render_as_string(hide_password=False)
