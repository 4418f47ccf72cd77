"""Out of the bundles again: exactly what was named, to the last byte, and what cannot be is said."""

from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine

from app.errors import ArchiveDamaged, NotFound
from app.models.columns import new_id
from ops.archive import restore
from ops.archive.load import PATIENCE, SMALLEST, Load
from ops.archive.restore import restore_conversation, restore_run, restore_user
from ops.catalogue import RESTORE_ACCOUNT, UNDO_ARCHIVE
from ops.declarations import Job
from tests.archived import EVERYTHING, archive_all, make_idle, place, plain, stored
from tests.factories import Account
from tests.ops.archive.conftest import Execute, Fixed

BUNDLED = ("archived", "bundled", 0, 1)
DAMAGE = "UPDATE conversation_archives SET bundle = substring(bundle FROM 2) WHERE conversation_id = :c"


def test_undoing_a_run_restores_what_that_run_bundled_and_nothing_else(
    flask_app: Flask, engine: Engine, user: Account, other_user: Account
) -> None:
    earlier = make_idle(engine, user, plain(3))
    archive_all(flask_app)
    mine, theirs = make_idle(engine, user, EVERYTHING), make_idle(engine, other_user, plain(40), status="archived")
    before = [stored(engine, each) for each in (mine, theirs)]
    run = archive_all(flask_app)
    with flask_app.app_context():
        planned = restore_run(run_id=run.id, dry_run=True)
        assert (planned.restored, planned.restored_before, planned.deleted, planned.dry_run) == (2, 0, 0, True)
        assert place(engine, mine) == BUNDLED
        done = restore_run(run_id=run.id)
    assert (done.restored, done.restored_before, done.deleted, done.damaged, done.more) == (2, 0, 0, 0, False)
    assert [stored(engine, each) for each in (mine, theirs)] == before
    assert place(engine, mine) == ("active", "live", len(EVERYTHING), 0)
    assert place(engine, theirs) == ("archived", "live", 40, 0)
    assert place(engine, earlier) == BUNDLED
    assert archive_all(flask_app).conversations == 0  # an undo holds


def test_beside_people_an_undo_keeps_to_the_pace(
    flask_app: Flask, engine: Engine, user: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = list[float]()

    def hurried(connection: Connection) -> Load:
        load = Load(connection, home=tmp_path, slow_ms=50, pace=100, sleep=slept.append, measure=Fixed())
        load._latency.quiet = False
        load.messages = SMALLEST
        return load

    monkeypatch.setattr(restore, "load_by_settings", hurried)
    for _ in range(7):
        make_idle(engine, user, plain(40))
    run = archive_all(flask_app)
    with flask_app.app_context():
        assert restore_run(run_id=run.id).restored == 7
    assert len(slept) == 2, "after each three conversations, which have a hundred messages together"
    assert min(slept) >= 0.8, "120 messages at 100 a second, or twice what they took"


@pytest.mark.parametrize("job", [UNDO_ARCHIVE, RESTORE_ACCOUNT], ids=lambda job: job.name)
def test_what_a_job_restores_ends_before_the_job_is_ended(
    flask_app: Flask, engine: Engine, user: Account, monkeypatch: pytest.MonkeyPatch, job: Job
) -> None:
    assert timedelta(seconds=restore.ASKED_SECONDS + PATIENCE) < job.longest, "with a rest at its end"
    monkeypatch.setattr(restore, "ASKED_SECONDS", 0.0)
    make_idle(engine, user, plain(3))
    run = archive_all(flask_app)
    with flask_app.app_context():
        done = (
            restore.undo_asked(run_id=str(run.id))
            if job is UNDO_ARCHIVE
            else restore.restore_account_asked(account_id=str(user.id))
        )
    assert (done.restored, done.more) == (0, True)


def test_it_says_what_had_been_restored_or_deleted_before(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute
) -> None:
    restored, deleted, unarchived, left = (make_idle(engine, user, plain(3)) for _ in range(4))
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
    assert place(engine, left)[1] == "live"
    assert execute("SELECT restored FROM archive_runs WHERE id = :id", id=run.id) == [(3,)]


def test_damaged_ones_stay_where_they_are_and_do_not_stop_the_others(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute
) -> None:
    conversations = sorted(make_idle(engine, user, plain(3)) for _ in range(3))
    run = archive_all(flask_app)
    execute(DAMAGE, c=conversations[1])
    with flask_app.app_context():
        done = restore_run(run_id=run.id)
        assert (done.restored, done.damaged, done.damaged_ids) == (2, 1, (conversations[1],))
        with pytest.raises(ArchiveDamaged):
            restore_conversation(conversation_id=conversations[1])
    assert place(engine, conversations[1]) == BUNDLED


def test_all_of_a_users(flask_app: Flask, engine: Engine, user: Account, other_user: Account) -> None:
    mine = [make_idle(engine, user, plain(3)) for _ in range(3)]
    theirs = make_idle(engine, other_user, plain(3))
    archive_all(flask_app)
    with flask_app.app_context():
        assert restore_user(user_id=user.id, dry_run=True).restored == 3
        assert restore_user(user_id=user.id).restored == 3
        assert restore_user(user_id=user.id).restored == 0
        assert restore_user(user_id=new_id()).restored == 0
    assert {place(engine, each)[1] for each in mine} == {"live"}
    assert place(engine, theirs) == BUNDLED


def test_time_that_is_up_leaves_the_rest_for_later(flask_app: Flask, engine: Engine, user: Account) -> None:
    make_idle(engine, user, plain(3))
    run = archive_all(flask_app)
    with flask_app.app_context():
        stopped = restore_run(run_id=run.id, seconds=0.0)
        assert (stopped.restored, stopped.more) == (0, True)
        assert restore_run(run_id=run.id).restored == 1


def test_what_is_not_bundled_is_left_as_it_is(flask_app: Flask, engine: Engine, user: Account) -> None:
    conversation = make_idle(engine, user, plain(3))
    with flask_app.app_context():
        assert restore_conversation(conversation_id=conversation, dry_run=True).restored == 0
        assert restore_conversation(conversation_id=conversation).restored == 0
        with pytest.raises(NotFound):
            restore_conversation(conversation_id=new_id())
        with pytest.raises(NotFound):
            restore_run(run_id=new_id())
    assert place(engine, conversation) == ("active", "live", 3, 0)


def test_what_comes_back_is_compared_with_what_went(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute
) -> None:
    """A database that changes what it is told to store is found out, and nothing is changed."""
    conversation = make_idle(engine, user, plain(3))
    archive_all(flask_app)
    execute(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.content := NEW.content || ' '; RETURN NEW; END $$"
    )
    execute("CREATE TRIGGER meddle BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION meddle()")
    try:
        with flask_app.app_context(), pytest.raises(RuntimeError, match="not what was bundled"):
            restore_conversation(conversation_id=conversation)
    finally:
        execute("DROP TRIGGER meddle ON messages")
        execute("DROP FUNCTION meddle()")
    assert place(engine, conversation) == BUNDLED
