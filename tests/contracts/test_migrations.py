"""The migrations: upgrade, downgrade, equality with the models, and concurrent upgrades."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import alembic.command
import flask_migrate
import flask_migrate.cli
import pytest
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy import Engine, create_engine, text

import app.models  # noqa: F401  # so that the metadata is complete
from app.config import Settings
from app.extensions import Base, db
from app.factory import create_app
from ops.upgrades.pending import alembic_config
from tests.database import fresh_database, migrate
from tests.processes import reaped

ROOT = Path(__file__).parents[2]
MIGRATIONS = str(ROOT / "migrations")

# All columns, constraints and indexes of the schema by name and definition, without object ids. PostgreSQL 18 names the
# NOT NULL of a column when the column is created, so these names differ after a rename; `is_nullable` has the same.
SCHEMA_QUERY = """
SELECT 'column', table_name || '.' || column_name,
       concat_ws(' ', data_type, character_maximum_length, is_nullable, column_default)
  FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
UNION ALL
SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
  FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conrelid::regclass::text <> 'alembic_version'
UNION ALL
SELECT 'index', tablename || '.' || indexname, indexdef FROM pg_indexes
 WHERE schemaname = 'public' AND tablename <> 'alembic_version'
ORDER BY 1, 2"""


@contextmanager
def application_on(settings: Settings, url: str) -> Iterator[Flask]:
    """Provide an application on the database at `url`, with its context."""
    flask_app = create_app(replace(settings, database=settings.database.model_copy(update={"url": url})))
    with flask_app.app_context():
        yield flask_app
        db.engine.dispose()


def read_schema(engine: Engine) -> list[Any]:
    """Return (kind, name, definition) of every part of the schema."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(SCHEMA_QUERY))]


@pytest.fixture
def empty_database(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_migrations") as url:
        yield url


def test_downgrade_and_second_upgrade_give_the_same_schema(settings: Settings, empty_database: str) -> None:
    with application_on(settings, empty_database):
        migrate()
        first = read_schema(db.engine)
        for _ in range(len(list(Path(MIGRATIONS, "versions").glob("0*.py")))):
            alembic.command.downgrade(alembic_config(), "-1")
        assert read_schema(db.engine) == []
        migrate()
        assert read_schema(db.engine) == first
        assert first


def test_migrations_and_models_give_the_same_schema(engine: Engine, empty_database: str) -> None:
    """Alembic's own comparison ignores CHECK constraints and partial indexes, so PostgreSQL describes both schemas."""
    fresh = create_engine(empty_database)
    Base.metadata.create_all(fresh)
    expected = read_schema(fresh)
    fresh.dispose()
    assert read_schema(engine) == expected


def test_alembic_finds_no_difference(flask_app: Flask, engine: Engine) -> None:
    with flask_app.app_context():
        alembic.command.check(alembic_config())


def test_single_head_is_in_current_head_file() -> None:
    heads = ScriptDirectory(MIGRATIONS).get_heads()
    assert heads == [Path(MIGRATIONS, ".current-head").read_text().strip()]


def _flask_db(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "db", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "JWT_SECRET_KEY": "x" * 32},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.process
def test_concurrent_upgrades_both_succeed(empty_database: str, engine: Engine) -> None:
    processes = [_flask_db(empty_database, "upgrade") for _ in range(2)]
    with reaped(*processes):
        output = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], output
    fresh = create_engine(empty_database)
    assert read_schema(fresh) == read_schema(engine)
    fresh.dispose()


def test_flask_db_commands_work(settings: Settings, empty_database: str) -> None:
    with application_on(settings, empty_database) as flask_app:
        flask_migrate.Migrate(flask_app, db, directory=MIGRATIONS)
        script = ScriptInfo(create_app=lambda: flask_app)

        def revision_after(*arguments: str) -> str:
            result = CliRunner().invoke(flask_migrate.cli.db, list(arguments), obj=script)
            assert result.exit_code == 0, result.output
            with db.engine.connect() as connection:
                return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())

        head = Path(MIGRATIONS, ".current-head").read_text().strip()
        assert revision_after("upgrade", "0001") == "0001"
        assert revision_after("upgrade") == head
        before = str(ScriptDirectory(MIGRATIONS).get_revision(head).down_revision)
        assert revision_after("downgrade") == before
        assert revision_after("stamp", "head") == head
        assert revision_after("stamp", before) == before
        for command in ("current", "history", "heads"):
            assert revision_after(command) == before


def test_downgrade_that_drops_the_audit_requires_consent(
    settings: Settings, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = """
        INSERT INTO audit_events (id, actor_kind, actor, action, result)
        VALUES (gen_random_uuid(), 'command', 'x', 'user.disable', 'begun')"""
    seal = "INSERT INTO audit_seals VALUES (1, now(), now(), 'x', '{}', '', '')"
    with application_on(settings, empty_database):
        migrate()

        def run(statement: str) -> Any:
            with db.engine.begin() as connection:
                return connection.execute(text(statement))

        run(event)
        for statement, table, stays_at in ((seal, "audit_seals", "0021"), (None, "audit_events", "0009")):
            if statement:
                run(statement)
            with pytest.raises(CommandError, match=rf"drops the table {table}.*PARLEY_DROP_AUDIT=yes"):
                alembic.command.downgrade(alembic_config(), "0008")
            assert run("SELECT version_num FROM alembic_version").scalar_one() == stays_at
            assert run(f"SELECT count(*) FROM {table}").scalar_one() == 1
            if statement:
                run("DELETE FROM audit_seals")
        monkeypatch.setenv("PARLEY_DROP_AUDIT", "yes")
        alembic.command.downgrade(alembic_config(), "0008")
        assert run("SELECT to_regclass('audit_events')").scalar_one() is None


@pytest.mark.process
def test_migration_on_locked_table_fails_with_lock_timeout(settings: Settings, empty_database: str) -> None:
    with application_on(settings, empty_database):
        migrate()
    holder = create_engine(empty_database)
    with holder.connect() as connection:
        connection.execute(text("LOCK TABLE turns IN ACCESS SHARE MODE"))
        process = _flask_db(empty_database, "downgrade", "0002")
        output = process.communicate(timeout=60)[0]
    holder.dispose()
    assert process.returncode != 0
    assert "lock timeout" in output
