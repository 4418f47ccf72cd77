"""Creation of backups: their contents, and the state after a failure."""

import hashlib
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from app.config import Settings
from app.storage.errors import StorageUnavailable
from app.storage.folder import FolderStore
from ops.backup.create import BackupReport, create
from ops.backup.errors import BackupDamaged, BackupError, DumpFailed, ProgramsMissing
from ops.backup.names import DUMP, MANIFEST, BackupName, new_name
from ops.backup.store import open_backup_store
from ops.embedded import URL_WHEN_STARTED
from ops.errors import AlreadyRunning
from ops.runs.locks import lock_key
from tests.ops.backup.conftest import AUDIT, SECONDS, BackupInstall, as_role, session
from tests.ops.backup.running_dumps import BackgroundCall, dump_processes, lock_table, wait_for_dump
from tests.ops.installation import run_sql
from tests.waiting import wait_until


def test_create_stores_dump_and_manifest_of_the_database(parley: BackupInstall) -> None:
    created: BackupReport = parley.run(create)
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
        "constraints": 9, "foreign keys": 1, "indexes": 8, "partitioned tables": 1, "sequences": 1, "views": 1,
    }  # fmt: skip
    dump = (parley.folder / f"{created.name}{DUMP}").read_bytes()
    assert manifest["dump"]["sha256"] == hashlib.sha256(dump).hexdigest() == created.sha256
    assert manifest["dump"]["bytes"] == len(dump) == created.bytes
    assert {path.stat().st_mode & 0o777 for path in parley.folder.iterdir()} == {0o600}


def test_digest_ignores_order_and_settings_and_changes_with_every_row(
    install: Callable[..., BackupInstall], spare_url: str
) -> None:
    parley = install(spare_url)

    def digests() -> dict[str, str]:
        tables = parley.manifest(parley.run(create).name)["contents"]["tables"]
        return {name: table["digest"] for name, table in tables.items()}

    before = digests()
    [(database,)] = run_sql(spare_url, "SELECT current_database()")
    for setting in (
        "TimeZone = 'Asia/Tokyo'", "DateStyle = 'German'", "IntervalStyle = 'iso_8601'", "bytea_output = 'escape'",
        "extra_float_digits = 0", "search_path = 'other Place'",
    ):  # fmt: skip
        run_sql(spare_url, f'ALTER DATABASE "{database}" SET {setting}')
    run_sql(
        spare_url,
        "CREATE TABLE public.copy AS TABLE public.twins",
        "TRUNCATE public.twins",
        "INSERT INTO public.twins SELECT * FROM public.copy ORDER BY a DESC, b DESC",
        "DROP TABLE public.copy",
    )
    assert digests() == before
    run_sql(
        spare_url, "UPDATE public.twins SET b = '' WHERE ctid = (SELECT min(ctid) FROM public.twins WHERE b IS NULL)"
    )
    after = digests()
    assert [name for name in before if after[name] != before[name]] == ["public.twins"]


def test_dump_and_manifest_share_one_snapshot(install: Callable[..., BackupInstall], spare_url: str) -> None:
    """Rows that are committed while the dump runs are in neither."""
    parley = install(spare_url)
    with lock_table(spare_url):
        work = BackgroundCall(lambda: parley.run(create))
        wait_for_dump(spare_url)
        run_sql(spare_url, "INSERT INTO users VALUES (1000, 'late')", "DELETE FROM messages WHERE id > 3000")
    manifest = parley.manifest(work.result().name)
    assert manifest["contents"]["tables"]["public.users"]["rows"] == 50
    assert manifest["contents"]["tables"]["public.messages"]["rows"] == 4000


def test_snapshot_outlasts_the_timeouts_of_the_role(install: Callable[..., BackupInstall], spare_url: str) -> None:
    [(database,)] = run_sql(spare_url, "SELECT current_database()")
    for setting in ("idle_in_transaction_session_timeout", "statement_timeout", "idle_session_timeout"):
        run_sql(spare_url, f"ALTER DATABASE \"{database}\" SET {setting} = '50ms'")
    if int(run_sql(spare_url, "SHOW server_version_num")[0][0]) >= 170_000:
        run_sql(spare_url, f"ALTER DATABASE \"{database}\" SET transaction_timeout = '50ms'")
    admin = make_url(spare_url).set(database="postgres").render_as_string(hide_password=False)
    # The dump waits for a table that the manifest does not read, so the snapshot's own connection has nothing to do.
    idle = f"""
        SELECT pid FROM pg_stat_activity
         WHERE datname = '{database}' AND application_name = 'parley-backup' AND state = 'idle in transaction'
           AND clock_timestamp() - state_change > '300 ms'"""
    parley = install(spare_url)
    with lock_table(spare_url, "ONLY parts"):
        work = BackgroundCall(lambda: parley.run(create))
        wait_until(lambda: work.ended or run_sql(admin, idle))
        assert not work.ended
    assert work.result().tables == 9


def test_create_is_refused_while_another_one_runs(parley: BackupInstall) -> None:
    with session(parley.url) as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (lock_key("backup.create"),))
        with pytest.raises(AlreadyRunning, match="Another backup is running"):
            parley.run(create)
        code, out, err = parley.command("create")
    assert (code, out) == (4, "")
    assert "Another backup is running" in err
    assert parley.files == []


def test_names_of_the_same_second_differ_and_sort_by_age() -> None:
    moment = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    names = [new_name("12345678", moment + timedelta(milliseconds=n)) for n in range(1000)]
    assert sorted(name.text for name in names) == [name.text for name in sorted(names)] == [name.text for name in names]
    assert new_name("12345678", moment).text != names[0].text  # the clock was set back
    assert BackupName.parse(names[0].text) == names[0]
    assert BackupName.parse("parley-12345678-20261399T999999Z-00000000") is None
    assert min(new_name("12345678", moment.replace(year=2025)), names[0]).taken_at.year == 2025


def test_folder_store_does_not_overwrite_a_file(parley: BackupInstall) -> None:
    (parley.folder / "taken").write_text("mine")
    with (
        pytest.raises(StorageUnavailable, match="already holds a file called taken"),
        parley.store.create("taken") as file,
    ):
        file.write(b"yours")
    assert (parley.folder / "taken").read_text() == "mine"


@pytest.mark.process
def test_killed_backup_ends_pg_dump_and_the_next_backup_deletes_its_file(
    install: Callable[..., BackupInstall], spare_url: str
) -> None:
    parley = install(spare_url)
    with lock_table(spare_url):
        process = parley.start("create")
        wait_for_dump(spare_url)
        [dump] = dump_processes(process.pid)
        shown = " ".join(dump.cmdline())
        assert make_url(spare_url).password not in shown
        process.send_signal(signal.SIGKILL)
        process.communicate()
        dump.wait(SECONDS)
        [left] = parley.files
        assert left.endswith(".dump.partial")
        assert parley.store.list_files() == []
    created = parley.run(create)
    assert created.unfinished_deleted == 1
    assert parley.files == [f"{created.name}{DUMP}", f"{created.name}{MANIFEST}"]


def test_killed_pg_dump_fails_the_backup(install: Callable[..., BackupInstall], spare_url: str) -> None:
    parley = install(spare_url)
    with lock_table(spare_url):
        work = BackgroundCall(lambda: parley.run(create))
        wait_for_dump(spare_url)
        [dump] = dump_processes(psutil.Process().pid)
        dump.kill()
    with pytest.raises(DumpFailed, match=r"pg_dump was ended by the signal SIGKILL; its result was discarded"):
        work.result()
    assert parley.files == []


def test_lost_connection_of_pg_dump_fails_the_backup(install: Callable[..., BackupInstall], spare_url: str) -> None:
    parley = install(spare_url)
    with lock_table(spare_url):
        work = BackgroundCall(lambda: parley.run(create))
        run_sql(spare_url, f"SELECT pg_terminate_backend({wait_for_dump(spare_url)})")
    with pytest.raises(DumpFailed, match=r"pg_dump failed: .*terminating connection"):
        work.result()
    assert parley.files == []


def test_lost_connection_of_the_snapshot_ends_pg_dump(install: Callable[..., BackupInstall], spare_url: str) -> None:
    """pg_dump may be waiting for a lock and would not notice that the snapshot is gone."""
    parley = install(spare_url)
    with session(spare_url) as cursor:
        cursor.execute("LOCK TABLE ONLY parts, twins IN ACCESS EXCLUSIVE MODE")
        work = BackgroundCall(lambda: parley.run(create))
        wait_for_dump(spare_url)
        ours = "application_name = 'parley-backup' AND wait_event_type = 'Lock' AND datname = current_database()"
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"
        wait_until(lambda: run_sql(spare_url, cut))
        with pytest.raises(DumpFailed, match="The tables could not be read for the manifest"):
            work.result()
    assert parley.files == []


def test_missing_privilege_is_named_in_the_error(install: Callable[..., BackupInstall], spare_url: str) -> None:
    role = f"reader_{make_url(spare_url).database}"
    run_sql(
        spare_url,
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret-of-the-reader'",
        f'GRANT USAGE ON SCHEMA public, "other Place" TO {role}',
        f'GRANT SELECT ON ALL TABLES IN SCHEMA public, "other Place" TO {role}',
        f'GRANT SELECT ON ALL SEQUENCES IN SCHEMA public, "other Place" TO {role}',
        f"REVOKE SELECT ON twins FROM {role}",
    )
    parley = install(as_role(spare_url, role, "secret-of-the-reader"))
    try:
        with pytest.raises(DumpFailed, match="permission denied for table twins"):
            parley.run(create)
        assert parley.files == []
        run_sql(spare_url, f"GRANT SELECT ON twins TO {role}", "ALTER TABLE twins ENABLE ROW LEVEL SECURITY")
        with pytest.raises(DumpFailed, match="row-level security"):
            parley.run(create)
        assert parley.files == []
    finally:
        run_sql(spare_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.process
def test_full_disk_fails_the_backup_and_leaves_no_file(install: Callable[..., BackupInstall], spare_url: str) -> None:
    parley = install(spare_url)

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = parley.start("create", before=small_disk)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert "The folder" in errors.splitlines()[-1]
    assert "File too large" in errors.splitlines()[-1]
    assert parley.files == []


def test_missing_folder_is_not_created(install: Callable[..., BackupInstall], sample_url: str, tmp_path: Path) -> None:
    """Its disk may not be mounted; backups would then fill the disk of the mount point."""
    parley = install(sample_url, url=(tmp_path / "mnt" / "disk").as_uri())
    with pytest.raises(StorageUnavailable, match="create the folder, or mount its disk"):
        parley.run(create)
    assert not (tmp_path / "mnt").exists()


def test_dump_damaged_by_the_store_fails_the_backup(
    install: Callable[..., BackupInstall], sample_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = install(sample_url)
    sync_folder = FolderStore._sync_folder

    def flip_bit_and_sync(self: FolderStore) -> None:
        for path in self.folder.glob(f"*{DUMP}"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        sync_folder(self)

    monkeypatch.setattr(FolderStore, "_sync_folder", flip_bit_and_sync)
    with pytest.raises(BackupDamaged, match="is damaged: its SHA-256 is not the one"):
        parley.run(create)
    assert parley.files == []


def test_programs_of_another_version_are_refused(
    install: Callable[..., BackupInstall], sample_url: str, tmp_path: Path
) -> None:
    server = int(run_sql(sample_url, "SHOW server_version_num")[0][0]) // 10_000
    for name, version in (("older", server - 1), ("newer", 99)):
        folder = tmp_path / name
        folder.mkdir()
        for program in ("pg_dump", "pg_restore"):
            (folder / program).write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) {version}.1'\n")
            (folder / program).chmod(0o755)
    expected_message = (
        rf"{server - 1}\.1 is older than the server \({server}\), which it refuses.* postgresql-client-{server}"
    )
    with pytest.raises(ProgramsMissing, match=expected_message):
        install(sample_url, programs=tmp_path / "older").run(create)
    with pytest.raises(ProgramsMissing, match=f"No pg_dump and pg_restore of PostgreSQL {server}.*none were found"):
        install(sample_url, programs=tmp_path / "nowhere").run(create)
    if server < 17:
        with pytest.raises(ProgramsMissing, match=f"cannot be restored into a server of version {server}"):
            install(sample_url, programs=tmp_path / "newer").run(create)


def test_create_without_a_store_fails(install: Callable[..., BackupInstall], sample_url: str) -> None:
    parley = install(sample_url, url=None)
    with pytest.raises(BackupError, match="No store for backups is set"):
        parley.run(create)


def test_embedded_database_has_a_default_store(settings: Settings, tmp_path: Path) -> None:
    embedded = replace(
        settings,
        server=settings.server.model_copy(update={"home": tmp_path / "home"}),
        database=settings.database.model_copy(update={"url": URL_WHEN_STARTED}),
    )
    assert open_backup_store(embedded).url.endswith("/backups")
