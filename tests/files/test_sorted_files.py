"""Listing a store in the order of names, and the pruning of copies that uses it."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.config import Settings
from app.storage import sorting
from app.storage.base import StoredFile
from app.storage.folder import FolderStore
from app.storage.sorting import SizesByName, sorted_by_name
from ops.backup.create import BackupReport, create
from ops.backup.drill import drill
from ops.backup.prune import PruneReport, prune
from tests.factories import LoggedInUser
from tests.files.test_backups import backups, copies
from tests.files.test_purge import TWO_DAYS, Put, age, put

__all__ = ["backups", "put"]  # fixtures


@pytest.fixture
def settings(settings: Settings, backups: Path) -> Settings:
    """Keep one backup, in a folder."""
    values = {"url": backups.as_uri(), "keep_daily": 1, "keep_weekly": 0, "keep_monthly": 0}
    return replace(settings, backups=settings.backups.model_copy(update=values))


@pytest.fixture(params=[1, 3, 1000])
def in_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Sort so many files in memory."""
    monkeypatch.setattr(sorting, "IN_MEMORY", request.param)
    return int(request.param)


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 100])
def test_files_are_sorted_by_name(tmp_path: Path, count: int) -> None:
    names = random.Random(count).sample(range(10**6), count)
    for name in names:
        (tmp_path / f"{name:x}").write_bytes(b"x" * (name % 7))
    store = FolderStore(tmp_path, setting="FILES_URL")
    found = list(sorted_by_name(store.iterate_files()))
    assert found == sorted(store.list_files(), key=lambda file: file.name)
    assert len(found) == count
    sizes = SizesByName(found)
    assert [sizes.find(f"{name:x}") for name in sorted(names, key=lambda name: f"{name:x}")] == [
        name % 7 for name in sorted(names, key=lambda name: f"{name:x}")
    ]
    assert SizesByName(found).find("zz") is None


def test_size_of_a_missing_file_is_none_between_others() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    sizes = SizesByName([StoredFile("b", 1, at), StoredFile("d", 2, at)])
    assert [sizes.find(name) for name in "abcde"] == [None, 1, None, 2, None]


@pytest.mark.usefixtures("in_memory")
def test_many_copies_are_found_again_checked_and_pruned(
    flask_app: Flask,
    backups: Path,
    put: Put,
    client: FlaskClient,
    user: LoggedInUser,
) -> None:
    files = [put(b"%d" % number) for number in range(12)]

    def run(function: Callable[..., Any]) -> Any:
        with flask_app.app_context():
            return function()

    first: BackupReport = run(create)
    assert first.files_copied == 12
    assert run(create).files_copied == 0
    assert run(drill).ok
    for file in files[::2]:
        client.delete(f"/api/files/{file['id']}", headers=user.headers)
    for path in (backups / "contents").iterdir():
        age(path, 2 * TWO_DAYS)
    assert len(copies(backups)) == 12
    last: BackupReport = run(create)
    assert last.files_copied == 0
    assert run(drill).ok  # the last backup that was drilled is kept
    pruned: PruneReport = run(prune)
    assert pruned.deleted == 2
    assert sorted(copies(backups).values(), key=int) == [b"%d" % number for number in range(1, 12, 2)]
    assert run(drill).ok
