"""The contents of files in backups: copied once, checked, pruned and brought back."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pyrage import x25519
from sqlalchemy import Engine, text

from app.config import Settings
from app.container import current_settings
from app.factory import create_app
from ops.backup.create import BackupReport, create
from ops.backup.drill import drill
from ops.backup.errors import BackupDamaged, BackupError
from ops.backup.file_restore import FileRestoreReport, restore_files
from ops.backup.locks import CREATE_LOCK, backup_lock
from ops.backup.names import FILES
from ops.backup.prune import prune
from ops.backup.scheduled import create_and_prune
from ops.backup.store import open_backup_store
from ops.backup.verify import verify
from ops.checks.run import CheckResult
from ops.cli.entry_points import ops
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.embedded.parent_death import signal_on_parent_death
from ops.levels import Level
from ops.maintenance.files import purge_files
from tests.factories import LoggedInUser
from tests.files.test_purge import TWO_DAYS, Put, age, names, put
from tests.ops.backup.conftest import PROJECT
from tests.waiting import wait_until

__all__ = ["put"]  # a fixture


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """Create the folder of the store of backups."""
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(settings: Settings, backups: Path) -> Settings:
    """Return the settings with that store."""
    return replace(settings, backups=settings.backups.model_copy(update={"url": backups.as_uri()}))


def run(flask_app: Flask, function: Callable[..., Any], **arguments: Any) -> Any:
    with flask_app.app_context():
        return function(**arguments)


def copies(backups: Path) -> dict[str, bytes]:
    """Return the copies by name, and drafts of them."""
    folder = backups / "contents"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def entries(backups: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (backups / f"{name}{FILES}").read_text().splitlines()]


def checked(flask_app: Flask, **options: Any) -> Any:
    with flask_app.app_context():
        [report] = verify(store=open_backup_store(current_settings()), **options)
        return report


def doctor(flask_app: Flask) -> CheckResult:
    with flask_app.app_context():
        [result] = run_doctor(checks=select_checks(["backup.files"])).results
        return result


def test_database_without_files_has_no_list(flask_app: Flask, backups: Path) -> None:
    created: BackupReport = run(flask_app, create)
    assert (created.files, created.files_missing) == (0, 0)
    assert not list(backups.glob(f"*{FILES}"))
    assert not (backups / "contents").exists()


def test_each_content_is_copied_once(flask_app: Flask, backups: Path, put: Put) -> None:
    put(b"one")
    put(b"two")
    first: BackupReport = run(flask_app, create)
    assert (first.files, first.files_copied, first.file_bytes_copied) == (2, 2, 6)
    before = {path.name: path.stat().st_mtime_ns for path in (backups / "contents").iterdir()}
    put(b"three")
    second: BackupReport = run(flask_app, create)
    assert (second.files, second.files_copied) == (3, 1)
    assert sorted(copies(backups).values()) == [b"one", b"three", b"two"]
    after = {path.name: path.stat().st_mtime_ns for path in (backups / "contents").iterdir()}
    assert before.items() < after.items()
    listed = entries(backups, second.name)
    assert [entry["sha256"] for entry in listed] == sorted(entry["sha256"] for entry in listed)
    assert {entry["bytes"] for entry in listed} == {3, 5}
    manifest = json.loads((backups / f"{second.name}.manifest.json").read_text())
    assert (manifest["files"]["contents"], manifest["files"]["content_bytes"], manifest["files"]["missing"]) == (
        3,
        11,
        0,
    )


def test_files_are_restored_into_an_empty_store(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser, put: Put, store: Path
) -> None:
    files = {put(content, name)["id"]: content for name, content in (("a.txt", b"one"), ("b.txt", b"two" * 700_000))}
    name = run(flask_app, create).name
    objects = {path: path.read_bytes() for path in store.iterdir()}
    lost = sorted(objects)[0]
    lost.unlink()
    (store / f".{lost.name}.partial").write_bytes(b"of a restore that was killed")
    sorted(objects)[1].write_bytes(b"cut off")
    planned: FileRestoreReport = run(flask_app, restore_files, name=name, dry_run=True)
    assert (planned.restored, planned.missing) == (2, 0)
    assert names(store) == {f".{lost.name}.partial", sorted(objects)[1].name}
    done: FileRestoreReport = run(flask_app, restore_files, name=name)
    assert (done.ok, done.contents, done.restored, done.present) == (True, 2, 2, 0)
    assert {path: path.read_bytes() for path in store.iterdir()} == objects
    for file_id, content in files.items():
        assert client.get(f"/api/files/{file_id}/content", headers=user.headers).data == content
    again: FileRestoreReport = run(flask_app, restore_files, name=name)
    assert (again.restored, again.present) == (0, 2)


def test_restore_of_files_names_what_the_backup_lacks(flask_app: Flask, put: Put, store: Path, backups: Path) -> None:
    put(b"damaged")
    name = run(flask_app, create).name
    [copy] = (backups / "contents").iterdir()
    copy.write_bytes(b"DAMAGED")
    put(b"later")
    for path in store.iterdir():
        path.unlink()
    result = flask_app.test_cli_runner().invoke(ops, ["backup", "restore-files", name, "--json"])
    report = json.loads(result.stdout)["report"]
    assert result.exit_code == 2
    assert (report["ok"], report["restored"], report["missing"]) == (False, 0, 2)
    assert {"is damaged" in problem for problem in report["problems"]} == {True, False}
    assert names(store) == set()


def test_encrypted_backup_has_encrypted_copies(
    settings: Settings, flask_app: Flask, put: Put, store: Path, backups: Path, tmp_path: Path
) -> None:
    identity, other = x25519.Identity.generate(), x25519.Identity.generate()
    key = tmp_path / "key.txt"
    key.write_text(str(identity))
    put(b"a secret text")

    def with_keys(*identities: Any, **changes: Any) -> Flask:
        recipients = tuple(str(each.to_public()) for each in identities)
        update = {"age_recipients": recipients, **changes}
        return create_app(replace(settings, backups=settings.backups.model_copy(update=update)))

    encrypting = with_keys(identity)
    first = run(encrypting, create)
    assert b"secret" not in b"".join(copies(backups).values())
    assert run(encrypting, create).files_copied == 0
    assert checked(encrypting).files_hashed == 1  # without the private key
    other_keys = with_keys(identity, other)
    assert run(other_keys, create).files_copied == 1  # the new key must be able to read it
    decrypting = with_keys(identity, age_identity_file=key)
    objects = {path: path.read_bytes() for path in store.iterdir()}
    for path in objects:
        path.unlink()
    assert run(decrypting, restore_files, name=first.name).restored == 1
    assert {path: path.read_bytes() for path in store.iterdir()} == objects


def test_list_of_killed_encrypted_run_is_rebuilt_from_its_copies(
    settings: Settings, put: Put, backups: Path, flask_app: Flask
) -> None:
    put(b"x" * 100)
    recipients = (str(x25519.Identity.generate().to_public()),)
    encrypting = create_app(
        replace(settings, backups=settings.backups.model_copy(update={"age_recipients": recipients}))
    )
    run(encrypting, create)
    for path in backups.glob("parley-*"):  # only the copies are left
        path.unlink()
    again = run(encrypting, create)
    assert (again.files, again.files_copied, again.files_missing) == (1, 0, 0)
    assert checked(encrypting).ok


def test_object_that_is_missing_does_not_break_the_backup(
    flask_app: Flask, put: Put, store: Path, backups: Path
) -> None:
    put(b"kept")
    [kept] = names(store)
    put(b"lost")
    [lost] = names(store) - {kept}
    (store / lost).unlink()
    with pytest.raises(BackupError, match="was created, but 1 of 2 contents of files are missing"):
        run(flask_app, create_and_prune)
    [listed] = backups.glob(f"*{FILES}")
    name = listed.name.removesuffix(FILES)
    assert {entry["stored_sha256"] is None for entry in entries(backups, name)} == {True, False}
    report = checked(flask_app)
    assert (report.ok, report.files, report.files_missing) == (True, 2, 1)
    assert doctor(flask_app).level is Level.WARNING
    result = flask_app.test_cli_runner().invoke(ops, ["backup", "create", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["report"]["files_missing"] == 1
    (store / lost).write_bytes(b"lost")  # put back from a copy
    assert run(flask_app, create).files_missing == 0
    assert doctor(flask_app).level is Level.OK


def test_store_of_files_that_is_away_does_not_break_the_backup(flask_app: Flask, put: Put, store: Path) -> None:
    for n in range(6):
        put(b"%d" % n)
    away = store.rename(store.with_name("away"))
    created: BackupReport = run(flask_app, create)
    assert (created.files, created.files_missing) == (6, 6)
    assert str(store) in (created.files_problem or "")
    away.rename(store)
    assert run(flask_app, create).files_copied == 6


def test_copies_have_no_more_time_than_the_job(flask_app: Flask, put: Put) -> None:
    put(b"x")
    created: BackupReport = run(flask_app, create, file_seconds=0)
    assert (created.files_copied, created.files_missing) == (0, 1)
    assert "no time" in (created.files_problem or "")


@pytest.mark.parametrize("damage", ["missing", "shorter", "changed"])
def test_damaged_copy_is_found_and_made_again(flask_app: Flask, put: Put, backups: Path, damage: str) -> None:
    put(b"content")
    run(flask_app, create)
    assert checked(flask_app).ok
    [copy] = (backups / "contents").iterdir()
    if damage == "missing":
        copy.unlink()
    else:
        copy.write_bytes(b"content"[:3] if damage == "shorter" else b"CONTENT")
    for options in ({}, {"all_files": True}):
        report = checked(flask_app, **options)
        assert not report.ok
        assert len(report.problems) == 1
    if damage != "changed":  # a change is found by checks, which read it
        run(flask_app, create)
        assert checked(flask_app).ok


def test_damaged_list_is_found(flask_app: Flask, put: Put, backups: Path) -> None:
    put(b"content")
    name = run(flask_app, create).name
    listed = backups / f"{name}{FILES}"
    content = listed.read_bytes()
    for damaged in (content.replace(b'"bytes":7', b'"bytes":8'), content[:-1] + b" ", b"[" * len(content)):
        listed.write_bytes(damaged)
        assert "damaged" in checked(flask_app).problems[0]
        with pytest.raises(BackupDamaged):
            run(flask_app, restore_files, name=name)
    listed.unlink()
    assert "missing" in checked(flask_app).problems[0]


def test_drill_checks_the_copies(flask_app: Flask, put: Put, backups: Path) -> None:
    put(b"content")
    run(flask_app, create)
    report = run(flask_app, drill)
    assert (report.ok, report.files, report.files_hashed) == (True, 1, 1)
    assert report.steps[-1].step == "file contents"
    [copy] = (backups / "contents").iterdir()
    copy.write_bytes(b"CONTENT")
    report = run(flask_app, drill)
    assert not report.ok
    assert report.steps[-1].result == "failed"


def test_prune_deletes_copies_that_no_kept_backup_lists(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser, put: Put, backups: Path
) -> None:
    gone = put(b"gone")
    put(b"kept")
    run(flask_app, create)
    client.delete(f"/api/files/{gone['id']}", headers=user.headers)
    run(flask_app, create)  # replaces the first one of this day
    assert run(flask_app, prune).file_contents == 0  # young ones may belong to a backup that was killed
    assert len(copies(backups)) == 2
    for path in (backups / "contents").iterdir():
        age(path, 2 * TWO_DAYS)
    with flask_app.app_context(), backup_lock(CREATE_LOCK, "A backup"):
        busy = prune()
    assert (busy.file_contents, busy.file_contents_kept) == (0, "a backup was being created")
    assert run(flask_app, prune, dry_run=True).file_contents == 1
    assert len(copies(backups)) == 2
    assert run(flask_app, prune).file_contents == 1
    assert list(copies(backups).values()) == [b"kept"]
    assert checked(flask_app).ok


def test_prune_deletes_no_copies_without_the_list_of_a_kept_backup(flask_app: Flask, put: Put, backups: Path) -> None:
    put(b"content")
    name = run(flask_app, create).name
    (backups / f"{name}{FILES}").write_bytes(b"x")
    for path in (backups / "contents").iterdir():
        age(path, 2 * TWO_DAYS)
    pruned = run(flask_app, prune)
    assert pruned.file_contents == 0
    assert "damaged" in (pruned.file_contents_kept or "")
    assert list(copies(backups).values()) == [b"content"]


def test_purge_waits_for_the_backup(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser, put: Put, store: Path
) -> None:
    """The snapshot of the backup may have a content that is deleted before it is copied."""
    file = put(b"content")
    client.delete(f"/api/files/{file['id']}", headers=user.headers)
    with flask_app.app_context(), backup_lock(CREATE_LOCK, "A backup"):
        report = purge_files()
    assert (report.objects, report.more) == (0, True)
    assert len(names(store)) == 1
    assert run(flask_app, purge_files).objects == 1
    assert names(store) == set()


@pytest.mark.process
def test_backup_killed_while_it_copies_is_continued(
    settings: Settings, flask_app: Flask, put: Put, store: Path, backups: Path, engine: Engine
) -> None:
    for n in range(4):
        put(b"%d" % n * 1000)
    with engine.connect() as connection:
        query = text('SELECT object FROM file_contents ORDER BY sha256 COLLATE "C" OFFSET 2 LIMIT 1')
        third = store / str(connection.execute(query).scalar_one())
    content = third.read_bytes()
    third.unlink()
    os.mkfifo(third)  # the copy waits in the middle of this one
    secret = settings.auth.jwt_secret_key
    assert secret is not None
    inherited = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "PARLEY_POSTGRES_BIN")
    log = backups.parent / "log"
    environment = {
        **{name: os.environ[name] for name in inherited if name in os.environ},
        "DATABASE_URL": str(settings.database.url),
        "JWT_SECRET_KEY": secret.get_secret_value(),
        "PARLEY_HOME": str(backups.parent / "home"),
        "BACKUP_URL": backups.as_uri(),
        "FILES_URL": store.as_uri(),
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "ops", "backup", "create"],
            cwd=PROJECT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=signal_on_parent_death(signal.SIGKILL),
        )

    def write_half() -> None:
        with third.open("wb") as fifo:  # waits for the reader
            fifo.write(content[:500])
            fifo.flush()
            process.wait()

    writer = threading.Thread(target=write_half, daemon=True)
    writer.start()

    def is_copying() -> bool:
        assert process.poll() is None, log.read_text()
        found = copies(backups)
        return len(found) == 3 and any(name.endswith(".partial") for name in found)

    wait_until(is_copying)
    process.kill()
    writer.join(60)
    third.unlink()
    third.write_bytes(content)
    assert not list(backups.glob("*.manifest.json"))
    assert len([name for name in copies(backups) if not name.startswith(".")]) == 2
    created: BackupReport = run(flask_app, create)
    assert (created.files, created.files_copied, created.files_missing) == (4, 2, 0)
    assert not list((backups / "contents").glob(".*"))
    assert checked(flask_app, all_files=True).files_hashed == 4
