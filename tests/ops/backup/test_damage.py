"""Kinds of damage to a backup, and whether verify or only a drill finds them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from ops.backup.create import create
from ops.backup.drill import DrillReport, drill
from ops.backup.inventory import Inventory
from ops.backup.programs import Programs, find_programs
from ops.backup.target import Target
from ops.backup.verify import VerifyReport, verify
from tests.ops.backup import damage
from tests.ops.backup.conftest import BackupInstall
from tests.ops.installation import run_sql

FOUND_BY_READING: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (damage.flip_bit, "is damaged: its SHA-256 is not the one in its manifest"),
    "a truncated file": (damage.truncate_dump, "bytes; its manifest says"),
    "a lost dump": (damage.delete_dump, "has a manifest, but its dump is missing"),
    "an edited manifest": (damage.edit_manifest, "was changed after it was written"),
    "a truncated manifest": (damage.truncate_manifest, "is not valid: it was truncated or overwritten"),
    "an overwritten manifest": (damage.overwrite_manifest, "which this version of Parley cannot read"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the fixture `good`, shared by all tests."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def good(kept: Path, install: Callable[..., BackupInstall], sample_url: str) -> Path:
    if not any(kept.iterdir()):
        install(sample_url, folder=kept).run(create)
    return kept


@pytest.fixture
def programs(sample_url: str) -> Programs:
    engine = create_engine(sample_url)
    with engine.connect() as connection:
        target = Target.from_connection(connection)
    engine.dispose()
    return find_programs(target)


@pytest.mark.parametrize("kind", FOUND_BY_READING)
def test_damage_is_found_by_verify_and_drill(
    kind: str, good: Path, install: Callable[..., BackupInstall], sample_url: str, tmp_path: Path
) -> None:
    apply_damage, expected_message = FOUND_BY_READING[kind]
    parley = install(sample_url, folder=damage.copy_of(good, tmp_path / "broken"))
    apply_damage(parley.folder)

    [verified] = parley.run(verify, store=parley.store)
    assert isinstance(verified, VerifyReport)
    assert not verified.ok
    assert expected_message in verified.problems[0]

    drilled: DrillReport = parley.run(drill)
    assert not drilled.ok
    assert drilled.problems == verified.problems
    assert [step.step for step in drilled.steps] == ["checksums"]
    assert parley.scratches() == []

    inventory = Inventory.load(parley.store)
    assert inventory.problem(inventory.backups[0]) is not None
    assert inventory.newest_good(parley.source, until=drilled.began_at) is None


def test_good_backup_passes_verify_which_names_its_limits(
    good: Path, install: Callable[..., BackupInstall], sample_url: str, tmp_path: Path
) -> None:
    parley = install(sample_url, folder=damage.copy_of(good, tmp_path / "copy"))
    [verified] = parley.run(verify, store=parley.store)
    assert verified.ok
    assert "only `flask ops backup drill` proves" in verified.proves
    code, out, _ = parley.command("verify")
    assert code == 0
    assert "only `flask ops backup drill` proves" in " ".join(out.split())


def excluded(*options: str) -> Callable[[str, Path, Programs], None]:
    def put(url: str, folder: Path, programs: Programs) -> None:
        damage.put_dump_of(url, programs, folder, *options)

    return put


def changed(*statements: str) -> Callable[[str, Path, Programs], None]:
    def put(url: str, folder: Path, programs: Programs) -> None:
        run_sql(url, *statements)
        damage.put_dump_of(url, programs, folder)

    return put


def edited(**changes: Any) -> Callable[[str, Path, Programs], None]:
    def put(url: str, folder: Path, programs: Programs) -> None:
        damage.reseal(folder, lambda document: document["contents"].update(changes))

    return put


FOUND_BY_RESTORING: dict[str, tuple[Callable[[str, Path, Programs], None], tuple[str, ...]]] = {
    "a missing table": (excluded("--exclude-table=nothing"), ("the table public.nothing is missing (0 rows)",)),
    "missing rows": (
        excluded("--exclude-table-data=messages", "--exclude-table-data=twins"),
        ("public.messages has 0 rows instead of 4,000", "public.twins has 0 rows instead of 4"),
    ),
    "a dropped table": (changed("DROP TABLE twins"), ("the table public.twins is missing (4 rows)",)),
    "an altered row": (
        changed("UPDATE users SET name = 'another name' WHERE id = 7"),
        ("public.users has the right number of rows, but at least one of them is different",),
    ),
    "many things": (
        changed(
            "DELETE FROM messages WHERE id = 77",
            "UPDATE twins SET b = '' WHERE b IS NULL",
            "DROP INDEX messages_user_id_idx",
            "CREATE TABLE stranger ()",
        ),
        (
            "public.messages has 3,999 rows instead of 4,000",
            "public.twins has the right number of rows, but at least one of them is different",
            "there are 7 indexes instead of 8",
            "the table public.stranger is not in the manifest",
        ),
    ),
    "another manifest": (
        edited(alembic=["9999"], newest_message_at=None, extensions={"plpgsql": "1.0", "gone": "1"}),
        (
            "the migration is 0001 instead of 9999",
            "the newest message's time is 2026-01-01",
            "the extension gone is missing",
        ),
    ),
    "rows that refer to nothing": (
        changed(
            "ALTER TABLE messages DROP CONSTRAINT messages_user_id_fkey",
            "DELETE FROM users WHERE id = 9",
            'ALTER TABLE messages ADD CONSTRAINT "odd %s" FOREIGN KEY (user_id) REFERENCES users NOT VALID',
        ),
        ('public.messages has rows that violate the foreign key "odd %s"',),
    ),
}


@pytest.mark.parametrize("kind", FOUND_BY_RESTORING)
def test_damage_is_found_only_by_drill(
    kind: str,
    good: Path,
    install: Callable[..., BackupInstall],
    sample_url: str,
    spare_url: str,
    programs: Programs,
    tmp_path: Path,
) -> None:
    """The size and checksums of each backup are right."""
    apply_damage, expected = FOUND_BY_RESTORING[kind]
    parley = install(sample_url, folder=damage.copy_of(good, tmp_path / "broken"))
    apply_damage(spare_url, parley.folder, programs)
    [verified] = parley.run(verify, store=parley.store)
    assert verified.ok

    drilled: DrillReport = parley.run(drill)
    assert not drilled.ok
    for expected_message in expected:
        assert any(expected_message in problem for problem in drilled.problems), drilled.problems
    assert parley.scratches() == []

    inventory = Inventory.load(parley.store)
    assert "a drill found" in str(inventory.problem(inventory.backups[0]))


def test_pg_restore_error_is_shown_without_row_data(
    install: Callable[..., BackupInstall], spare_url: str, programs: Programs
) -> None:
    """The data violate a constraint; the DETAIL of PostgreSQL's error contains the row."""
    parley = install(spare_url)
    parley.run(create)
    run_sql(
        spare_url,
        "ALTER TABLE twins ADD CONSTRAINT not_one CHECK (a <> 1) NOT VALID",
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'not_one'",
    )
    damage.put_dump_of(spare_url, programs, parley.folder)
    drilled: DrillReport = parley.run(drill)
    assert [step.result for step in drilled.steps] == ["ok", "failed"]
    [problem] = drilled.problems
    assert problem.startswith("pg_restore failed: ")
    assert "not_one" in problem
    assert "DETAIL" not in problem
    assert parley.scratches() == []
