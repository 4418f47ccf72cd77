"""The migrations: up, down and up again; the same schema as the models; safe when two processes upgrade at once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask_migrate
import flask_migrate.cli
import pytest
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy import Engine, create_engine, text

import app.models  # noqa: F401  # so that the metadata is complete
from app.config import Settings
from app.extensions import Base, db
from app.factory import create_app
from tests.database import fresh_database
from tests.processes import reaped

ROOT = Path(__file__).parents[2]
MIGRATIONS = str(ROOT / "migrations")

# Everything the schema consists of, by name and definition, without object ids.
CATALOGUE = """
SELECT 'column', table_name || '.' || column_name,
       concat_ws(' ', data_type, character_maximum_length, is_nullable, column_default)
  FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
UNION ALL
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
UNION ALL
SELECT 'index', tablename || '.' || indexname, indexdef FROM pg_indexes
 WHERE schemaname = 'public' AND tablename <> 'alembic_version'
ORDER BY 1, 2"""


@contextmanager
def application_on(settings: Settings, url: str) -> Iterator[Flask]:
    flask_app = create_app(replace(settings, database=settings.database.model_copy(update={"url": url})))
    with flask_app.app_context():
        yield flask_app
        db.engine.dispose()


def catalogue(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(CATALOGUE))]


@pytest.fixture
def empty(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_migrations") as url:
        yield url


def test_up_down_and_up_again_give_the_same_schema(settings: Settings, empty: str) -> None:
    with application_on(settings, empty):
        flask_migrate.upgrade(directory=MIGRATIONS)
        first = catalogue(db.engine)
        for _ in range(len(list(Path(MIGRATIONS, "versions").glob("0*.py")))):
            flask_migrate.downgrade(directory=MIGRATIONS, revision="-1")
        assert catalogue(db.engine) == []
        flask_migrate.upgrade(directory=MIGRATIONS)
        assert catalogue(db.engine) == first
        assert first


def test_migrations_and_models_make_the_same_schema(engine: Engine, empty: str) -> None:
    """Compares what PostgreSQL says of both: Alembic's own comparison is blind to CHECKs and partial indexes."""
    fresh = create_engine(empty)
    Base.metadata.create_all(fresh)
    expected = catalogue(fresh)
    fresh.dispose()
    assert catalogue(engine) == expected


def test_alembic_sees_no_difference(flask_app: Flask, engine: Engine) -> None:
    with flask_app.app_context():
        flask_migrate.check(directory=MIGRATIONS)


def test_there_is_one_head_and_it_is_written_down() -> None:
    heads = ScriptDirectory(MIGRATIONS).get_heads()
    assert heads == [Path(MIGRATIONS, ".current-head").read_text().strip()]


def _flask_db(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "db", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "JWT_SECRET_KEY": "x" * 32, "FLASK_APP": "wsgi.py"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.process
def test_two_processes_may_upgrade_at_once(empty: str, engine: Engine) -> None:
    both = [_flask_db(empty, "upgrade") for _ in range(2)]
    with reaped(*both):
        printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    fresh = create_engine(empty)
    assert catalogue(fresh) == catalogue(engine)
    fresh.dispose()


def test_the_command_line_works_as_people_know_it(settings: Settings, empty: str) -> None:
    with application_on(settings, empty) as flask_app:
        script = ScriptInfo(create_app=lambda: flask_app)

        def revision_after(*arguments: str) -> str:
            result = CliRunner().invoke(flask_migrate.cli.db, list(arguments), obj=script)
            assert result.exit_code == 0, result.output
            with db.engine.connect() as connection:
                return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())

        head = Path(MIGRATIONS, ".current-head").read_text().strip()
        assert revision_after("upgrade", "0001") == "0001"
        assert revision_after("upgrade") == head
        before = f"{int(head) - 1:04}"
        assert revision_after("downgrade") == before
        assert revision_after("stamp", "head") == head
        assert revision_after("stamp", before) == before
        for reads in ("current", "history", "heads"):
            assert revision_after(reads) == before


@pytest.mark.process
def test_a_migration_gives_up_soon_when_a_table_is_locked(settings: Settings, empty: str) -> None:
    with application_on(settings, empty):
        flask_migrate.upgrade(directory=MIGRATIONS)
    holder = create_engine(empty)
    with holder.connect() as connection:
        connection.execute(text("LOCK TABLE turns IN ACCESS SHARE MODE"))
        process = _flask_db(empty, "downgrade", "0002")
        printed = process.communicate(timeout=60)[0]
    holder.dispose()
    assert process.returncode != 0
    assert "lock timeout" in printed
