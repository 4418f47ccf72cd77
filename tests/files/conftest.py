"""A separate database and store, because the job and the check look at all files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from tests.database import migrated_database


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Create the folder of the store."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(settings: Settings, store: Path, postgres: str, worker_id: str, testrun_uid: str) -> Iterator[Settings]:
    """Yield the settings with a separate database and store."""
    with migrated_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_files") as url:
        yield replace(
            settings,
            database=settings.database.model_copy(update={"url": url}),
            files=settings.files.model_copy(update={"url": store.as_uri()}),
        )


@pytest.fixture
def flask_app(settings: Settings) -> Iterator[Flask]:
    """Yield the application on the separate database."""
    flask_app = create_app(settings)
    yield flask_app
    with flask_app.app_context():
        for engine in db.engines.values():
            engine.dispose()


@pytest.fixture
def engine(flask_app: Flask) -> Engine:
    """Return the application's engine."""
    with flask_app.app_context():
        return db.engine
