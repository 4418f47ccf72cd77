"""An installation of one's own for each test, on a database of its own, for the doctor to look at."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Connection, NullPool, create_engine, make_url, text

import app.models  # noqa: F401  # so that the metadata is complete
from app.config import Settings
from app.database import engine_options
from app.extensions import Base, db
from app.factory import create_app
from app.services.health import expected_revision
from ops import doctor
from ops.catalogue import CHECKS
from ops.cli.nouns import ops
from ops.doctor import Answer
from tests.ops.indexes.conftest import fresh, run_on

_NUMBERS = itertools.count()


@dataclass
class Ward:
    """An installation. `run` is done by the owner of its database, in sessions beside the application's."""

    url: str
    settings: Settings
    flask_app: Flask
    owner: Connection
    open: Callable[..., Connection]

    def ask(self, check: str) -> Answer:
        """What the doctor says to one check."""
        with self.flask_app.app_context():
            (answer,) = doctor.examine(checks=[each for each in CHECKS if each.id == check]).answers
        return answer

    def run(self, *statements: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run statements, each a transaction of its own; gives the rows of the last."""
        return run_on(self.owner, *statements, **parameters)

    def call(self, *arguments: str, **options: Any) -> Result:
        """`flask ops ...`."""
        return self.flask_app.test_cli_runner().invoke(ops, list(arguments), **options)


@pytest.fixture(scope="session")
def template(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """The name of a database to copy: Parley's tables, empty, at the revision of this code."""
    name = f"parley_{testrun_uid[:8]}_{worker_id}_ward"
    with fresh(postgres, name) as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        Base.metadata.create_all(engine)
        with engine.connect() as connection:
            connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"))
            connection.execute(text("INSERT INTO alembic_version VALUES (:at)"), {"at": expected_revision()})
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_stat_statements"))
        yield name


@contextmanager
def admitted(url: str, settings: Settings, changes: Mapping[str, Mapping[str, Any]]) -> Iterator[Ward]:
    """An installation on the database at `url`, with these settings changed."""
    changed = {"database": {"url": url}, **changes}
    groups = {name: getattr(settings, name).model_copy(update=dict(update)) for name, update in changed.items()}
    settings = replace(settings, **groups)
    flask_app = create_app(settings)
    with ExitStack() as stack:

        def connect(**part: Any) -> Connection:
            options = engine_options(settings.database)["connect_args"]
            engine = create_engine(make_url(url).set(**part), poolclass=NullPool, connect_args=options)
            return stack.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))

        owner = connect()
        run_on(owner, "SET statement_timeout = 0", "SET idle_in_transaction_session_timeout = 0")
        yield Ward(url, settings, flask_app, owner, connect)
        with flask_app.app_context():
            for engine in db.engines.values():
                engine.dispose()


@pytest.fixture
def url(postgres: str, template: str) -> Iterator[str]:
    """The URL of a database of the test's own."""
    with fresh(postgres, f"{template}_{next(_NUMBERS)}", f"TEMPLATE {template}") as url:
        yield url


@pytest.fixture(scope="module")
def shared_url(postgres: str, template: str) -> Iterator[str]:
    """As `url`, for all tests of a module, which then leave it as it was: let a fixture `url` there return this one."""
    with fresh(postgres, f"{template}_{next(_NUMBERS)}", f"TEMPLATE {template}") as url:
        yield url


@pytest.fixture
def admit(url: str, settings: Settings) -> Iterator[Callable[..., Ward]]:
    """A function that makes an installation on that database; keyword arguments are groups of settings."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(admitted(url, settings, changes))


@pytest.fixture
def ward(admit: Callable[..., Ward]) -> Ward:
    """An installation with the settings as they are."""
    return admit()


@pytest.fixture
def role(ward: Ward) -> Iterator[str]:
    """A role that may do nothing but connect; its password is its name."""
    name = f"role_{make_url(ward.url).database}"
    run_on(ward.owner, f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{name}'")
    yield name
    run_on(ward.owner, f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')


def as_role(url: str, role: str) -> str:
    """`url` for that role."""
    return make_url(url).set(username=role, password=role).render_as_string(hide_password=False)
