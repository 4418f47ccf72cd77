"""Restoring of bundled conversations."""

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine

from app.errors import ArchiveDamaged, NotFound
from app.ids import new_id
from ops.archive import restore
from ops.archive.restore import restore_conversation, restore_run, restore_user
from ops.archive.throttle import MAX_WAIT, MIN_MESSAGES, Throttle
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import RESTORE_USER, UNDO_ARCHIVE
from tests.bundling import UNUSUAL_MESSAGES, archive_all, make_idle, numbered_messages, storage_state, stored_messages
from tests.factories import LoggedInUser
from tests.ops.archive.conftest import Execute, FixedLatency

BUNDLED = ("archived", "bundled", 0, 1)
DAMAGE = "UPDATE conversation_archives SET bundle = substring(bundle FROM 2) WHERE conversation_id = :c"


def test_undo_restores_only_what_the_run_bundled(
    flask_app: Flask, engine: Engine, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    earlier = make_idle(engine, user, numbered_messages(3))
    archive_all(flask_app)
    mine, theirs = (
        make_idle(engine, user, UNUSUAL_MESSAGES),
        make_idle(engine, other_user, numbered_messages(40), status="archived"),
    )
    before = [stored_messages(engine, conversation) for conversation in (mine, theirs)]
    run = archive_all(flask_app)
    with flask_app.app_context():
        planned = restore_run(run_id=run.id, dry_run=True)
        assert (planned.restored, planned.restored_before, planned.deleted, planned.dry_run) == (2, 0, 0, True)
        assert storage_state(engine, mine) == BUNDLED
        done = restore_run(run_id=run.id)
    assert (done.restored, done.restored_before, done.deleted, done.damaged, done.more) == (2, 0, 0, 0, False)
    assert [stored_messages(engine, conversation) for conversation in (mine, theirs)] == before
    assert storage_state(engine, mine) == ("active", "live", len(UNUSUAL_MESSAGES), 0)
    assert storage_state(engine, theirs) == ("archived", "live", 40, 0)
    assert storage_state(engine, earlier) == BUNDLED
    assert archive_all(flask_app).conversations == 0  # restored conversations count as active


def test_undo_keeps_to_the_pace_beside_chats(
    flask_app: Flask, engine: Engine, user: LoggedInUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = list[float]()

    def make_throttle(connection: Connection) -> Throttle:
        throttle = Throttle(connection, home=tmp_path, slow_ms=50, pace=100, sleep=slept.append, latency=FixedLatency())
        throttle._latency.chats_idle = False
        throttle.messages = MIN_MESSAGES
        return throttle

    monkeypatch.setattr(restore, "throttle_from_settings", make_throttle)
    for _ in range(7):
        make_idle(engine, user, numbered_messages(40))
    run = archive_all(flask_app)
    with flask_app.app_context():
        assert restore_run(run_id=run.id).restored == 7
    assert len(slept) == 2, "after every three conversations, with more than a hundred messages"
    assert min(slept) >= 0.8, "120 messages at 100 per second, minus the duration"


@pytest.mark.parametrize("job", [UNDO_ARCHIVE, RESTORE_USER], ids=lambda job: job.name)
def test_restore_job_stops_before_its_time_limit(
    flask_app: Flask, engine: Engine, user: LoggedInUser, monkeypatch: pytest.MonkeyPatch, job: Job
) -> None:
    assert timedelta(seconds=restore.JOB_SECONDS + MAX_WAIT) < job.time_limit, "with a last pause"
    monkeypatch.setattr(restore, "JOB_SECONDS", 0.0)
    make_idle(engine, user, numbered_messages(3))
    run = archive_all(flask_app)
    with flask_app.app_context():
        done = (
            restore.run_undo_job(run_id=str(run.id))
            if job is UNDO_ARCHIVE
            else restore.run_user_restore_job(user_id=str(user.id))
        )
    assert (done.restored, done.more) == (0, True)


def test_undo_counts_what_was_restored_or_deleted_before(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    restored, deleted, unarchived, left = (make_idle(engine, user, numbered_messages(3)) for _ in range(4))
    run = archive_all(flask_app)
    client = flask_app.test_client()
    assert client.delete(f"/api/conversations/{deleted}", headers=user.headers).status_code == 204
    assert client.post(f"/api/conversations/{unarchived}/unarchive", headers=user.headers).status_code == 200
    with flask_app.app_context():
        assert restore_conversation(conversation_id=restored).restored == 1
        done = restore_run(run_id=run.id)
        again = restore_run(run_id=run.id)
    assert (done.restored, done.restored_before, done.deleted) == (1, 2, 1)
    assert (again.restored, again.restored_before, again.deleted) == (0, 3, 1)
    assert storage_state(engine, left)[1] == "live"
    assert execute("SELECT restored FROM archive_runs WHERE id = :id", id=run.id) == [(3,)]


def test_damaged_bundle_stays_and_does_not_stop_the_others(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    conversations = sorted(make_idle(engine, user, numbered_messages(3)) for _ in range(3))
    run = archive_all(flask_app)
    execute(DAMAGE, c=conversations[1])
    with flask_app.app_context():
        done = restore_run(run_id=run.id)
        assert (done.restored, done.damaged, done.damaged_ids) == (2, 1, (conversations[1],))
        with pytest.raises(ArchiveDamaged):
            restore_conversation(conversation_id=conversations[1])
    assert storage_state(engine, conversations[1]) == BUNDLED


def test_restore_user_restores_all_their_bundles(
    flask_app: Flask, engine: Engine, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    mine = [make_idle(engine, user, numbered_messages(3)) for _ in range(3)]
    theirs = make_idle(engine, other_user, numbered_messages(3))
    archive_all(flask_app)
    with flask_app.app_context():
        assert restore_user(user_id=user.id, dry_run=True).restored == 3
        assert restore_user(user_id=user.id).restored == 3
        assert restore_user(user_id=user.id).restored == 0
        assert restore_user(user_id=new_id()).restored == 0
    assert {storage_state(engine, conversation)[1] for conversation in mine} == {"live"}
    assert storage_state(engine, theirs) == BUNDLED


def test_restore_stops_when_its_time_is_up(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    make_idle(engine, user, numbered_messages(3))
    run = archive_all(flask_app)
    with flask_app.app_context():
        stopped = restore_run(run_id=run.id, seconds=0.0)
        assert (stopped.restored, stopped.more) == (0, True)
        assert restore_run(run_id=run.id).restored == 1


def test_restore_ignores_what_is_not_bundled(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    with flask_app.app_context():
        assert restore_conversation(conversation_id=conversation, dry_run=True).restored == 0
        assert restore_conversation(conversation_id=conversation).restored == 0
        with pytest.raises(NotFound):
            restore_conversation(conversation_id=new_id())
        with pytest.raises(NotFound):
            restore_run(run_id=new_id())
    assert storage_state(engine, conversation) == ("active", "live", 3, 0)


def test_restore_fails_if_the_messages_differ_from_the_bundle(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    """A trigger changes the restored messages; the restore is rolled back."""
    conversation = make_idle(engine, user, numbered_messages(3))
    archive_all(flask_app)
    execute(
        "CREATE FUNCTION change_content() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.content := NEW.content || ' '; RETURN NEW; END $$"
    )
    execute("CREATE TRIGGER change_content BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION change_content()")
    try:
        with flask_app.app_context(), pytest.raises(RuntimeError, match="differ from the bundle"):
            restore_conversation(conversation_id=conversation)
    finally:
        execute("DROP TRIGGER change_content ON messages")
        execute("DROP FUNCTION change_content()")
    assert storage_state(engine, conversation) == BUNDLED
