"""What can happen to a backup, each kind found: by reading it, or only by restoring it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from ops.backup.create import create
from ops.backup.drill import Drilled, drill
from ops.backup.inventory import Inventory
from ops.backup.programs import Programs, find_programs
from ops.backup.target import Target
from ops.backup.verify import Verified, verify
from tests.ops.backup import broken
from tests.ops.backup.conftest import Installation, run_sql

SEEN_BY_READING: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (broken.flip_a_bit, "is damaged: its SHA-256 is not the one in its manifest"),
    "a truncated file": (broken.cut_off, "bytes; its manifest says"),
    "a lost dump": (broken.lose_the_dump, "has a manifest, and no dump"),
    "an edited manifest": (broken.edit_the_manifest, "was changed after it was written"),
    "a truncated manifest": (broken.cut_the_manifest, "is no manifest: it was cut off or overwritten"),
    "an overwritten manifest": (broken.fill_the_manifest, "which this version of Parley cannot read"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a good backup, once it has been made."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def good(kept: Path, install: Callable[..., Installation], shop: str) -> Path:
    if not any(kept.iterdir()):
        install(shop, folder=kept).run(create)
    return kept


@pytest.fixture
def programs(shop: str) -> Programs:
    engine = create_engine(shop)
    with engine.connect() as connection:
        target = Target.of(connection)
    engine.dispose()
    return find_programs(target)


@pytest.mark.parametrize("kind", SEEN_BY_READING)
def test_what_reading_finds(
    kind: str, good: Path, install: Callable[..., Installation], shop: str, tmp_path: Path
) -> None:
    spoil, said = SEEN_BY_READING[kind]
    parley = install(shop, folder=broken.copy_of(good, tmp_path / "broken"))
    spoil(parley.folder)

    [verified] = parley.run(verify, store=parley.store)
    assert isinstance(verified, Verified)
    assert not verified.ok
    assert said in verified.problems[0]

    drilled: Drilled = parley.run(drill)
    assert not drilled.ok
    assert drilled.problems == verified.problems
    assert [step.step for step in drilled.steps] == ["checksums"]  # and nothing was restored
    assert parley.scratches() == []

    inventory = Inventory.of(parley.store)
    assert inventory.trouble(inventory.backups[0]) is not None
    assert inventory.newest_good(parley.source, until=drilled.began_at) is None


def test_a_good_one_passes_and_verify_says_how_little_that_is(
    good: Path, install: Callable[..., Installation], shop: str, tmp_path: Path
) -> None:
    parley = install(shop, folder=broken.copy_of(good, tmp_path / "copy"))
    [verified] = parley.run(verify, store=parley.store)
    assert verified.ok
    assert "only `flask ops backup drill` proves" in verified.proves
    code, out, _ = parley.command("verify")
    assert code == 0
    assert "only `flask ops backup drill` proves" in " ".join(out.split())


def excluded(*options: str) -> Callable[[str, Path, Programs], None]:
    def put(url: str, folder: Path, programs: Programs) -> None:
        broken.put_dump_of(url, programs, folder, *options)

    return put


def changed(*statements: str) -> Callable[[str, Path, Programs], None]:
    def put(url: str, folder: Path, programs: Programs) -> None:
        run_sql(url, *statements)
        broken.put_dump_of(url, programs, folder)

    return put


def told(**changes: Any) -> Callable[[str, Path, Programs], None]:
    def put(url: str, folder: Path, programs: Programs) -> None:
        broken.reseal(folder, lambda document: document["contents"].update(changes))

    return put


SEEN_BY_RESTORING: dict[str, tuple[Callable[[str, Path, Programs], None], tuple[str, ...]]] = {
    "a missing table": (excluded("--exclude-table=nothing"), ("the table public.nothing is missing (0 rows)",)),
    "missing rows": (
        excluded("--exclude-table-data=messages", "--exclude-table-data=twins"),
        ("public.messages has 0 rows instead of 4,000", "public.twins has 0 rows instead of 4"),
    ),
    "a dropped table": (changed("DROP TABLE twins"), ("the table public.twins is missing (4 rows)",)),
    "an altered row": (
        changed("UPDATE users SET name = 'somebody else' WHERE id = 7"),
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
            "there are 6 indexes instead of 7",
            "the table public.stranger is not in the manifest",
        ),
    ),
    "another manifest": (
        told(alembic=["9999"], newest_message_at=None, extensions={"plpgsql": "1.0", "gone": "1"}),
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
        ('public.messages has rows whose foreign key "odd %s" leads nowhere',),
    ),
}


@pytest.mark.parametrize("kind", SEEN_BY_RESTORING)
def test_what_only_restoring_finds(
    kind: str,
    good: Path,
    install: Callable[..., Installation],
    shop: str,
    spare: str,
    programs: Programs,
    tmp_path: Path,
) -> None:
    """Each has the right size and checksum, and a manifest whose seal fits."""
    spoil, expected = SEEN_BY_RESTORING[kind]
    parley = install(shop, folder=broken.copy_of(good, tmp_path / "broken"))
    spoil(spare, parley.folder, programs)
    [verified] = parley.run(verify, store=parley.store)
    assert verified.ok

    drilled: Drilled = parley.run(drill)
    assert not drilled.ok
    for said in expected:
        assert any(said in problem for problem in drilled.problems), drilled.problems
    assert parley.scratches() == []

    inventory = Inventory.of(parley.store)
    assert "a drill found" in str(inventory.trouble(inventory.backups[0]))


def test_a_dump_that_pg_restore_refuses_is_told_without_a_row_of_it(
    install: Callable[..., Installation], spare: str, programs: Programs
) -> None:
    """A constraint that the data do not keep; PostgreSQL's own words go on with the row."""
    parley = install(spare)
    parley.run(create)
    run_sql(
        spare,
        "ALTER TABLE twins ADD CONSTRAINT no_one CHECK (a <> 1) NOT VALID",
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'no_one'",
    )
    broken.put_dump_of(spare, programs, parley.folder)
    drilled: Drilled = parley.run(drill)
    assert [step.result for step in drilled.steps] == ["ok", "failed"]
    [problem] = drilled.problems
    assert problem.startswith("pg_restore failed: ")
    assert "no_one" in problem
    assert "DETAIL" not in problem
    assert parley.scratches() == []
