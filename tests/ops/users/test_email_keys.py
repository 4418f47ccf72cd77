"""Normal forms of email addresses that are missing, outdated or shared: the check, and the job that fills them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.text import address_key
from ops.checks.findings import Finding
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.levels import Level
from ops.users.email_keys import fill_email_keys
from tests.database import migrated_database
from tests.factories import LoggedInUser, insert_user

Insert = Callable[..., LoggedInUser]


@pytest.fixture(scope="module")
def own_app(settings: Settings, postgres: str, worker_id: str, testrun_uid: str) -> Iterator[Flask]:
    """Yield an application on a database of this module, because the job reads all users."""
    with migrated_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_keys") as url:
        database = settings.database.model_copy(update={"url": url})
        own_app = create_app(replace(settings, database=database))
        yield own_app
        with own_app.app_context():
            db.engine.dispose()


@pytest.fixture
def engine(own_app: Flask) -> Iterator[Engine]:
    """Yield the engine of a database without users."""
    with own_app.app_context():
        with db.engine.begin() as connection:
            connection.execute(text("DELETE FROM users"))
        yield db.engine


@pytest.fixture
def insert(own_app: Flask, engine: Engine) -> Insert:
    """Return a function that inserts a user; the address has a domain of this test."""
    domain = f"{uuid4().hex}.org"

    def insert(name: str, key: str | None = None) -> LoggedInUser:
        email = f"{name}@{domain}"
        return insert_user(own_app, engine, email=email, email_key=f"{key}@{domain}" if key else None)

    return insert


def keys(engine: Engine, *users: LoggedInUser) -> list[str | None]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT id, split_part(email_key, '@', 1) AS key FROM users WHERE id = ANY (:ids)"),
            {"ids": [user.id for user in users]},
        )
        found = {row.id: row.key for row in rows}
    return [found[user.id] for user in users]


def findings() -> dict[str, Finding]:
    [result] = run_doctor(checks=select_checks(["users.email_keys"])).results
    assert result.level is (Level.WARNING if result.findings else Level.OK)
    return {finding.object: finding for finding in result.findings}


def test_missing_and_outdated_keys_are_reported_and_filled(engine: Engine, insert: Insert) -> None:
    missing, outdated, right = insert("Ada"), insert("\uff22ob", "BOB"), insert("Zoe", "zoe")
    reported = findings()
    assert set(reported) == {"missing", "outdated"}
    assert reported["missing"].evidence["users"] == [str(missing.id)]
    assert reported["outdated"].evidence["users"] == [str(outdated.id)]
    dry = fill_email_keys(dry_run=True)
    assert (dry.filled, dry.dry_run) == (2, True)
    assert keys(engine, missing, outdated, right) == [None, "BOB", "zoe"]
    assert fill_email_keys().filled == 2
    assert keys(engine, missing, outdated, right) == ["ada", "bob", "zoe"]
    assert findings() == {}
    assert fill_email_keys().filled == 0


def test_key_of_another_account_is_left_to_it(engine: Engine, insert: Insert) -> None:
    owner, other = insert("\ufb01", "fi"), insert("f\u00adi")
    assert set(findings()) == {"missing"}
    report = fill_email_keys()
    assert (report.filled, report.shared, report.failed) == (0, 1, 0)
    assert keys(engine, owner, other) == ["fi", "f\u00adi"]
    shared = findings()
    assert set(shared) == {"shared"}
    assert shared["shared"].evidence["users"] == [str(other.id)]
    with engine.begin() as connection:  # the owner has moved to another address
        connection.execute(text("DELETE FROM users WHERE id = :u"), {"u": owner.id})
    assert set(findings()) == {"outdated"}
    assert fill_email_keys().filled == 1
    assert keys(engine, other) == ["fi"]
    assert findings() == {}


def test_account_spelled_like_the_key_gets_it(engine: Engine, insert: Insert) -> None:
    look_alike, spelled = insert("z\u200boe", "zoe"), insert("zoe")
    assert fill_email_keys().filled == 1
    assert keys(engine, look_alike, spelled) == ["z\u200boe", "zoe"]
    assert set(findings()) == {"shared"}


def test_first_of_several_missing_gets_the_shared_key(engine: Engine, insert: Insert) -> None:
    users = [insert("\ufb01"), insert("FI"), insert("f\u00adi")]
    report = fill_email_keys()
    assert (report.filled, report.shared) == (1, 2)
    assert keys(engine, *users) == ["fi", "FI", "f\u00adi"]


def test_long_normal_form_is_replaced_by_the_address(own_app: Flask, engine: Engine) -> None:
    email = f"{chr(0xFDFA) * 100}@{uuid4().hex}.org"  # 18 characters each in the normal form
    assert len(address_key(email)) > 254
    user = insert_user(own_app, engine, email=email)
    fill_email_keys()
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT email_key FROM users WHERE id = :u"), {"u": user.id}).scalar_one()
    assert stored == email
    assert findings() == {}


def test_parallel_runs_fill_each_key_once(own_app: Flask, engine: Engine, insert: Insert) -> None:
    users = [insert(f"User{number}") for number in range(20)]

    def run(_: int) -> int:
        with own_app.app_context():
            return fill_email_keys().failed

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(4)))
    assert keys(engine, *users) == [f"user{number}" for number in range(20)]
    assert findings() == {}


def test_run_without_time_continues_later(engine: Engine, insert: Insert) -> None:
    user = insert("Late")
    assert fill_email_keys(seconds=0).more
    fill_email_keys()
    assert keys(engine, user) == ["late"]
