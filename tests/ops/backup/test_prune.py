"""Pruning of a store."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.storage.errors import StorageUnavailable
from ops.backup.create import create
from ops.backup.inventory import Inventory
from ops.backup.manifest import parse, serialize
from ops.backup.names import DUMP, MANIFEST, new_name
from ops.backup.prune import PruneReport, prune
from ops.backup.stored_reports import store_report
from ops.errors import AlreadyRunning
from ops.runs.locks import lock_key
from tests.ops.backup.conftest import BackupInstall, session


def copy_aged(parley: BackupInstall, ago: timedelta, source: str | None = None) -> str:
    """Copy the existing backup as if it were taken that long ago; return its name."""
    name = new_name(source or parley.source, datetime.now(UTC) - ago)
    model = next(path for path in parley.folder.glob(f"*{MANIFEST}"))
    stem = model.name.removesuffix(MANIFEST)
    manifest = parse(model.read_bytes(), stem)
    aged = replace(manifest, name=name.text, origin=replace(manifest.origin, taken_at=name.taken_at))
    (parley.folder / f"{name}{DUMP}").write_bytes((parley.folder / f"{stem}{DUMP}").read_bytes())
    (parley.folder / f"{name}{MANIFEST}").write_bytes(serialize(aged))
    return name.text


@pytest.fixture
def filled(parley: BackupInstall) -> BackupInstall:
    """Return an installation with one backup."""
    parley.run(create)
    return parley


def test_prune_deletes_what_the_dry_run_listed(install: Callable[..., BackupInstall], sample_url: str) -> None:
    filled = install(sample_url, keep_daily=1, keep_weekly=0, keep_monthly=2)
    filled.run(create)
    old = [copy_aged(filled, timedelta(days=day)) for day in (380, 800, 801, 802)]
    before = filled.files
    shown: PruneReport = filled.run(prune, dry_run=True)
    assert filled.files == before
    assert shown.dry_run
    code, out, _ = filled.command("prune", "--dry-run", "--json")
    assert code == 0
    assert {backup["name"] for backup in json.loads(out)["report"]["backups"] if not backup["keep"]} == {
        backup.name for backup in shown.backups if not backup.keep
    }
    done: PruneReport = filled.run(prune)
    assert replace(done, dry_run=True) == shown
    assert {backup.name for backup in done.backups if not backup.keep} == set(old[1:])
    left = {path.split(".")[0] for path in filled.files}
    assert left == {backup.name for backup in done.backups if backup.keep}
    assert done.freed_bytes == sum(backup.bytes for backup in done.backups if not backup.keep) > 0


def test_prune_command_requires_confirmation(filled: BackupInstall) -> None:
    [gone] = [copy_aged(filled, timedelta(seconds=100))]
    code, _, err = filled.command("prune")
    assert code == 64
    assert "No terminal to ask for confirmation: pass --yes" in err
    assert f"{gone}{DUMP}" in filled.files
    code, out, _ = filled.command("prune", "--yes")
    assert code == 0
    assert "1 kept, 1 deleted" in out
    assert f"{gone}{DUMP}" not in filled.files


def test_prune_keeps_the_drilled_backup_and_ignores_the_damaged_one(filled: BackupInstall) -> None:
    drilled, damaged = copy_aged(filled, timedelta(hours=60)), copy_aged(filled, timedelta(seconds=5))
    same_day = copy_aged(filled, timedelta(hours=60, seconds=-1))
    now = datetime.now(UTC)
    store_report(filled.store, drilled, "drill", ok=True, at=now, details={})
    os.truncate(filled.folder / f"{damaged}{DUMP}", 100)
    pruned: PruneReport = filled.run(prune)
    decisions = {backup.name: (backup.keep, backup.reason) for backup in pruned.backups}
    assert decisions[drilled] == (True, "the last successfully drilled backup")
    assert decisions[same_day][0]
    assert decisions[damaged][0]
    assert "its dump has 100 bytes instead of" in decisions[damaged][1]
    assert any(name.startswith(f"{drilled}.drill-") for name in filled.files)


def test_prune_keeps_files_of_others(filled: BackupInstall) -> None:
    theirs = [copy_aged(filled, timedelta(days=day), "12345678") for day in range(800, 830)]
    (filled.folder / "notes.txt").write_text("mine")
    (filled.folder / "parley-of-mine.dump").write_text("mine")
    pruned: PruneReport = filled.run(prune)
    assert pruned.deleted == 0
    assert {f"{name}{DUMP}" for name in theirs} | {"notes.txt", "parley-of-mine.dump"} <= set(filled.files)


def test_prune_deletes_old_orphans_of_its_source(filled: BackupInstall) -> None:
    orphan = new_name(filled.source, datetime.now(UTC)).text
    fresh, foreign = f"{orphan}{DUMP}", new_name("12345678", datetime.now(UTC)).text + DUMP
    old = new_name(filled.source, datetime.now(UTC)).text + DUMP
    for name in (fresh, old, foreign):
        (filled.folder / name).write_bytes(b"half")
    long_ago = (datetime.now(UTC) - timedelta(days=3)).timestamp()
    for name in (old, foreign):
        os.utime(filled.folder / name, (long_ago, long_ago))
    pruned: PruneReport = filled.run(prune)
    assert pruned.orphans == (old,)
    assert old not in filled.files
    assert {fresh, foreign} <= set(filled.files)
    assert len(Inventory.load(filled.store).backups) == 1


def test_prune_is_refused_during_a_drill(filled: BackupInstall) -> None:
    with session(filled.url) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock_key("backup.keep"),))
        with pytest.raises(AlreadyRunning, match="A drill or another pruning is running"):
            filled.run(prune)


def test_prune_of_a_missing_store_fails(install: Callable[..., BackupInstall], sample_url: str, tmp_path: Path) -> None:
    parley = install(sample_url, url=(tmp_path / "gone").as_uri())
    with pytest.raises(StorageUnavailable, match="cannot be used"):
        parley.run(prune)
    code, _, err = parley.command("prune", "--dry-run")
    assert (code, "cannot be used" in err) == (3, True)
