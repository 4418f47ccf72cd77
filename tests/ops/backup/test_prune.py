"""Pruning a store: it does what it showed, once at a time, and leaves alone what is not its own."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.backup.create import create
from ops.backup.errors import StoreFailed
from ops.backup.inventory import Inventory
from ops.backup.manifest import read, written
from ops.backup.names import DUMP, MANIFEST, new_name
from ops.backup.prune import Pruned, prune
from ops.backup.reports import keep_report
from ops.errors import AnotherRunIsUnderWay
from ops.locks import lock_key
from tests.ops.backup.conftest import Installation, session


def taken(parley: Installation, ago: timedelta, source: str | None = None) -> str:
    """A backup like the one that there is, taken so long ago."""
    name = new_name(source or parley.source, datetime.now(UTC) - ago)
    model = next(path for path in parley.folder.glob(f"*{MANIFEST}"))
    stem = model.name.removesuffix(MANIFEST)
    manifest = read(model.read_bytes(), stem)
    aged = replace(manifest, name=name.text, origin=replace(manifest.origin, taken_at=name.taken_at))
    (parley.folder / f"{name}{DUMP}").write_bytes((parley.folder / f"{stem}{DUMP}").read_bytes())
    (parley.folder / f"{name}{MANIFEST}").write_bytes(written(aged))
    return name.text


@pytest.fixture
def filled(parley: Installation) -> Installation:
    """A store with one backup."""
    parley.run(create)
    return parley


def test_it_does_what_the_dry_run_showed(install: Callable[..., Installation], shop: str) -> None:
    filled = install(shop, keep_daily=1, keep_weekly=0, keep_monthly=2)
    filled.run(create)
    old = [taken(filled, timedelta(days=day)) for day in (380, 800, 801, 802)]
    before = filled.files
    shown: Pruned = filled.run(prune, dry_run=True)
    assert filled.files == before
    assert shown.dry_run
    code, out, _ = filled.command("prune", "--dry-run", "--json")
    assert code == 0
    assert {each["name"] for each in json.loads(out)["report"]["backups"] if not each["keep"]} == {
        each.name for each in shown.backups if not each.keep
    }
    done: Pruned = filled.run(prune)
    assert replace(done, dry_run=True) == shown
    assert {each.name for each in done.backups if not each.keep} == set(old[1:])
    left = {path.split(".")[0] for path in filled.files}
    assert left == {each.name for each in done.backups if each.keep}
    assert done.freed == sum(each.bytes for each in done.backups if not each.keep) > 0


def test_it_asks_first(filled: Installation) -> None:
    [gone] = [taken(filled, timedelta(seconds=100))]
    code, _, err = filled.command("prune")
    assert code == 64
    assert "There is no terminal to ask on: give --yes" in err
    assert f"{gone}{DUMP}" in filled.files
    code, out, _ = filled.command("prune", "--yes")
    assert code == 0
    assert "1 kept, 1 removed" in out
    assert f"{gone}{DUMP}" not in filled.files


def test_the_drilled_one_stays_with_its_reports_and_the_damaged_one_is_not_counted(filled: Installation) -> None:
    drilled, damaged = taken(filled, timedelta(hours=60)), taken(filled, timedelta(seconds=5))
    same_day = taken(filled, timedelta(hours=60, seconds=-1))
    now = datetime.now(UTC)
    keep_report(filled.store, drilled, "drill", ok=True, at=now, details={})
    os.truncate(filled.folder / f"{damaged}{DUMP}", 100)
    pruned: Pruned = filled.run(prune)
    why = {each.name: (each.keep, each.why) for each in pruned.backups}
    assert why[drilled] == (True, "the last one that a drill proved")
    assert why[same_day][0]
    assert why[damaged][0]
    assert "its dump has 100 bytes instead of" in why[damaged][1]
    assert any(name.startswith(f"{drilled}.drill-") for name in filled.files)


def test_what_is_not_its_own_stays(filled: Installation) -> None:
    theirs = [taken(filled, timedelta(days=day), "12345678") for day in range(800, 830)]
    (filled.folder / "notes.txt").write_text("mine")
    (filled.folder / "parley-of-mine.dump").write_text("mine")
    pruned: Pruned = filled.run(prune)
    assert pruned.removed == 0
    assert {f"{name}{DUMP}" for name in theirs} | {"notes.txt", "parley-of-mine.dump"} <= set(filled.files)


def test_what_runs_that_were_cut_off_left_goes_after_a_while(filled: Installation) -> None:
    stray = new_name(filled.source, datetime.now(UTC)).text
    fresh, foreign = f"{stray}{DUMP}", new_name("12345678", datetime.now(UTC)).text + DUMP
    old = new_name(filled.source, datetime.now(UTC)).text + DUMP
    for name in (fresh, old, foreign):
        (filled.folder / name).write_bytes(b"half")
    long_ago = (datetime.now(UTC) - timedelta(days=3)).timestamp()
    for name in (old, foreign):
        os.utime(filled.folder / name, (long_ago, long_ago))
    pruned: Pruned = filled.run(prune)
    assert pruned.strays == (old,)
    assert old not in filled.files
    assert {fresh, foreign} <= set(filled.files)
    assert len(Inventory.of(filled.store).backups) == 1


def test_not_while_a_drill_reads(filled: Installation) -> None:
    with session(filled.url) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock_key("backup.keep"),))
        with pytest.raises(AnotherRunIsUnderWay, match="A drill or another pruning is under way"):
            filled.run(prune)


def test_a_store_that_is_gone_is_told(install: Callable[..., Installation], shop: str, tmp_path: Path) -> None:
    parley = install(shop, url=(tmp_path / "gone").as_uri())
    with pytest.raises(StoreFailed, match="cannot be used"):
        parley.run(prune)
    code, _, err = parley.command("prune", "--dry-run")
    assert (code, "cannot be used" in err) == (3, True)
