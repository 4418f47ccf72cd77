"""Taking a backup: what is in it, and what is left of one that does not come to a good end."""

import hashlib
import resource
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from app.config import Settings
from ops.backup.create import Created, create
from ops.backup.errors import BackupError, DumpFailed, ProgramsMissing, StoreFailed
from ops.backup.names import DUMP, MANIFEST, BackupName, new_name
from ops.backup.stores.folder import Folder
from ops.backup.stores.opening import open_store
from ops.errors import AnotherRunIsUnderWay
from ops.locks import lock_key
from tests.jobs.processes import eventually
from tests.ops.backup.conftest import AUDIT, SECONDS, Installation, as_role, run_sql, session
from tests.ops.backup.waiting import Work, dumps_of, held, waiting_dump


def test_a_backup_is_a_dump_and_a_manifest_of_what_was_there(parley: Installation) -> None:
    created: Created = parley.run(create)
    assert parley.files == [f"{created.name}{DUMP}", f"{created.name}{MANIFEST}"]
    manifest = parley.manifest(created.name)
    rows = {name: table["rows"] for name, table in manifest["contents"]["tables"].items()}
    assert rows.pop(f"public.{AUDIT}") is not None
    assert rows == {
        'public."odd ""%s"" name %"': 20,
        '"other Place".things': 2,
        "public.alembic_version": 1,
        "public.messages": 4000,
        "public.nothing": 0,
        "public.parts_low": 10,
        "public.twins": 4,
        "public.users": 50,
    }
    assert manifest["contents"]["alembic"] == ["0001"]
    assert manifest["contents"]["newest_message_at"] == "2026-01-01T01:06:40+00:00"
    assert manifest["contents"]["objects"] == {
        "constraints": 9, "foreign keys": 1, "indexes": 7, "partitioned tables": 1, "sequences": 1, "views": 1,
    }  # fmt: skip
    dump = (parley.folder / f"{created.name}{DUMP}").read_bytes()
    assert manifest["dump"]["sha256"] == hashlib.sha256(dump).hexdigest() == created.sha256
    assert manifest["dump"]["bytes"] == len(dump) == created.bytes
    assert {path.stat().st_mode & 0o777 for path in parley.folder.iterdir()} == {0o600}


def test_hashes_do_not_depend_on_order_or_settings_and_see_every_change(
    install: Callable[..., Installation], spare: str
) -> None:
    parley = install(spare)

    def digests() -> dict[str, str]:
        tables = parley.manifest(parley.run(create).name)["contents"]["tables"]
        return {name: table["digest"] for name, table in tables.items()}

    before = digests()
    [(database,)] = run_sql(spare, "SELECT current_database()")
    for setting in (
        "TimeZone = 'Asia/Tokyo'", "DateStyle = 'German'", "IntervalStyle = 'iso_8601'", "bytea_output = 'escape'",
        "extra_float_digits = 0", "search_path = 'other Place'",
    ):  # fmt: skip
        run_sql(spare, f'ALTER DATABASE "{database}" SET {setting}')
    run_sql(
        spare,
        "CREATE TABLE public.copy AS TABLE public.twins",
        "TRUNCATE public.twins",
        "INSERT INTO public.twins SELECT * FROM public.copy ORDER BY a DESC, b DESC",
        "DROP TABLE public.copy",
    )
    assert digests() == before
    run_sql(spare, "UPDATE public.twins SET b = '' WHERE ctid = (SELECT min(ctid) FROM public.twins WHERE b IS NULL)")
    after = digests()
    assert [name for name in before if after[name] != before[name]] == ["public.twins"]


def test_dump_and_manifest_are_of_one_moment(install: Callable[..., Installation], spare: str) -> None:
    """What is committed while the dump is under way is in neither of them."""
    parley = install(spare)
    with held(spare):
        work = Work(lambda: parley.run(create))
        waiting_dump(spare)
        run_sql(spare, "INSERT INTO users VALUES (1000, 'late')", "DELETE FROM messages WHERE id > 3000")
    manifest = parley.manifest(work.outcome().name)
    assert manifest["contents"]["tables"]["public.users"]["rows"] == 50
    assert manifest["contents"]["tables"]["public.messages"]["rows"] == 4000


def test_a_snapshot_outlasts_the_timeouts_of_the_role(install: Callable[..., Installation], spare: str) -> None:
    [(database,)] = run_sql(spare, "SELECT current_database()")
    for setting in ("idle_in_transaction_session_timeout", "statement_timeout", "idle_session_timeout"):
        run_sql(spare, f"ALTER DATABASE \"{database}\" SET {setting} = '50ms'")
    if int(run_sql(spare, "SHOW server_version_num")[0][0]) >= 170_000:
        run_sql(spare, f"ALTER DATABASE \"{database}\" SET transaction_timeout = '50ms'")
    admin = make_url(spare).set(database="postgres").render_as_string(hide_password=False)
    # The dump waits for a table that the manifest does not read, so the snapshot's own connection has nothing to do.
    idle = f"""
        SELECT pid FROM pg_stat_activity
         WHERE datname = '{database}' AND application_name = 'parley-backup' AND state = 'idle in transaction'
           AND clock_timestamp() - state_change > '300 ms'"""
    parley = install(spare)
    with held(spare, "ONLY parts"):
        work = Work(lambda: parley.run(create))
        eventually(lambda: work.ended or run_sql(admin, idle))
        assert not work.ended
    assert work.outcome().tables == 9


def test_two_at_once_are_one(parley: Installation) -> None:
    with session(parley.url) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock_key("backup.create"),))
        with pytest.raises(AnotherRunIsUnderWay, match="Another backup is under way elsewhere"):
            parley.run(create)
        code, out, err = parley.command("create")
    assert (code, out) == (4, "")
    assert "Another backup is under way" in err
    assert parley.files == []


def test_names_of_the_same_moment_differ_and_sort_by_age() -> None:
    """Also where the clock has been set back onto a moment that was."""
    moment = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    names = [new_name("12345678", moment) for _ in range(100)]
    assert len({name.text for name in names}) == 100
    assert BackupName.parse(names[0].text) == names[0]
    assert BackupName.parse("parley-12345678-20261399T999999Z-00000000") is None
    assert min(new_name("12345678", moment.replace(year=2025)), names[0]).taken_at.year == 2025


def test_a_file_that_is_there_is_not_overwritten(parley: Installation) -> None:
    (parley.folder / "taken").write_text("mine")
    with pytest.raises(StoreFailed, match="holds a file called taken already"), parley.store.writing("taken") as file:
        file.write(b"yours")
    assert (parley.folder / "taken").read_text() == "mine"


# Ends that are no good ones: in each nothing is listed, and nothing is left but what the next run clears away.


@pytest.mark.process
def test_a_killed_backup_leaves_no_dump_running_and_the_next_one_tidies(
    install: Callable[..., Installation], spare: str
) -> None:
    parley = install(spare)
    with held(spare):
        process = parley.start("create")
        waiting_dump(spare)
        [dump] = dumps_of(process.pid)
        shown = " ".join(dump.cmdline())
        assert make_url(spare).password not in shown
        process.send_signal(signal.SIGKILL)
        process.communicate()
        dump.wait(SECONDS)
        [left] = parley.files
        assert left.endswith(".dump.partial")
        assert parley.store.entries() == []
    created = parley.run(create)
    assert created.tidied == 1
    assert parley.files == [f"{created.name}{DUMP}", f"{created.name}{MANIFEST}"]


def test_a_killed_pg_dump_is_told(install: Callable[..., Installation], spare: str) -> None:
    parley = install(spare)
    with held(spare):
        work = Work(lambda: parley.run(create))
        waiting_dump(spare)
        [dump] = dumps_of(psutil.Process().pid)
        dump.kill()
    with pytest.raises(DumpFailed, match=r"pg_dump was ended by the signal SIGKILL; nothing was kept"):
        work.outcome()
    assert parley.files == []


def test_a_lost_connection_of_the_dump_is_told(install: Callable[..., Installation], spare: str) -> None:
    parley = install(spare)
    with held(spare):
        work = Work(lambda: parley.run(create))
        run_sql(spare, f"SELECT pg_terminate_backend({waiting_dump(spare)})")
    with pytest.raises(DumpFailed, match=r"pg_dump failed: .*terminating connection"):
        work.outcome()
    assert parley.files == []


def test_a_lost_connection_of_the_manifest_ends_the_dump_too(install: Callable[..., Installation], spare: str) -> None:
    """Which may be waiting, and would not notice."""
    parley = install(spare)
    with session(spare) as cursor:
        cursor.execute("LOCK TABLE ONLY parts, twins IN ACCESS EXCLUSIVE MODE")
        work = Work(lambda: parley.run(create))
        waiting_dump(spare)
        ours = "application_name = 'parley-backup' AND wait_event_type = 'Lock' AND datname = current_database()"
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"
        eventually(lambda: run_sql(spare, cut))
        with pytest.raises(DumpFailed, match="The tables could not be read for the manifest"):
            work.outcome()
    assert parley.files == []


def test_a_privilege_that_is_missing_is_named(install: Callable[..., Installation], spare: str) -> None:
    role = f"reader_{make_url(spare).database}"
    run_sql(
        spare,
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret-of-the-reader'",
        f'GRANT USAGE ON SCHEMA public, "other Place" TO {role}',
        f'GRANT SELECT ON ALL TABLES IN SCHEMA public, "other Place" TO {role}',
        f'GRANT SELECT ON ALL SEQUENCES IN SCHEMA public, "other Place" TO {role}',
        f"REVOKE SELECT ON twins FROM {role}",
    )
    parley = install(as_role(spare, role, "secret-of-the-reader"))
    try:
        with pytest.raises(DumpFailed, match="permission denied for table twins"):
            parley.run(create)
        assert parley.files == []
        run_sql(spare, f"GRANT SELECT ON twins TO {role}", "ALTER TABLE twins ENABLE ROW LEVEL SECURITY")
        with pytest.raises(DumpFailed, match="row-level security"):
            parley.run(create)
        assert parley.files == []
    finally:
        run_sql(spare, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.process
def test_a_disk_that_fills_is_told_and_given_back(install: Callable[..., Installation], spare: str) -> None:
    parley = install(spare)

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = parley.start("create", before=small_disk)
    _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert "The backups' folder" in told.splitlines()[-1]
    assert "File too large" in told.splitlines()[-1]
    assert parley.files == []


def test_a_folder_that_is_not_there_is_not_made(
    install: Callable[..., Installation], shop: str, tmp_path: Path
) -> None:
    """It may be on a disk that is not mounted; backups would fill the one below it."""
    parley = install(shop, url=(tmp_path / "mnt" / "disk").as_uri())
    with pytest.raises(StoreFailed, match="make the folder, or mount the disk it is on"):
        parley.run(create)
    assert not (tmp_path / "mnt").exists()


def test_a_store_that_loses_what_it_was_given_is_found_out(
    install: Callable[..., Installation], shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = install(shop)
    settle = Folder._settle_folder

    def spoil(self: Folder) -> None:
        for path in self.folder.glob(f"*{DUMP}"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        settle(self)

    monkeypatch.setattr(Folder, "_settle_folder", spoil)
    with pytest.raises(BackupError, match="is damaged: its SHA-256 is not the one"):
        parley.run(create)
    assert parley.files == []


def test_programs_that_do_not_fit_the_server_are_refused(
    install: Callable[..., Installation], shop: str, tmp_path: Path
) -> None:
    server = int(run_sql(shop, "SHOW server_version_num")[0][0]) // 10_000
    for name, version in (("older", server - 1), ("newer", 99)):
        folder = tmp_path / name
        folder.mkdir()
        for program in ("pg_dump", "pg_restore"):
            (folder / program).write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) {version}.1'\n")
            (folder / program).chmod(0o755)
    said = rf"{server - 1}\.1 is older than the server \({server}\), which it refuses.* postgresql-client-{server}"
    with pytest.raises(ProgramsMissing, match=said):
        install(shop, programs=tmp_path / "older").run(create)
    with pytest.raises(ProgramsMissing, match=f"No pg_dump and pg_restore of PostgreSQL {server}.*none were found"):
        install(shop, programs=tmp_path / "nowhere").run(create)
    if server < 17:
        with pytest.raises(ProgramsMissing, match=f"a server of version {server} does not understand"):
            install(shop, programs=tmp_path / "newer").run(create)


def test_without_a_place_for_them_there_are_no_backups(install: Callable[..., Installation], shop: str) -> None:
    parley = install(shop, url=None)
    with pytest.raises(BackupError, match="No place for backups is set: set BACKUP_URL"):
        parley.run(create)


def test_the_embedded_database_has_a_place(settings: Settings, tmp_path: Path) -> None:
    from dataclasses import replace

    from ops.embedded import URL_WHEN_STARTED

    embedded = replace(
        settings,
        server=settings.server.model_copy(update={"home": tmp_path / "home"}),
        database=settings.database.model_copy(update={"url": URL_WHEN_STARTED}),
    )
    assert open_store(embedded).place.endswith("/backups")
