"""The migration that gives accounts the normal forms of their addresses."""

import logging
from collections.abc import Iterator

import alembic.command
import pytest
from sqlalchemy import text

from app.config import Settings
from app.extensions import db
from app.text import address_key
from ops.upgrades.pending import alembic_config
from tests.contracts.test_migrations import application_on
from tests.database import fresh_database

ALONE = ["Ada@Example.org", "\u0130da@example.org", "\uff42ob@example.org"]
ALIKE = ["\ufb01@example.org", "FI@example.org", "f\u00adi@example.org"]  # none is its own normal form
PREFERRED = ["z\u200boe@example.org", "zoe@example.org"]


@pytest.fixture
def empty_database(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    with fresh_database(postgres, f"parley_{testrun_uid[:8]}_{worker_id}_email_keys") as url:
        yield url


def test_migration_reports_colliding_accounts_and_merges_none(
    settings: Settings, empty_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    emails = [*ALONE, *ALIKE, *PREFERRED]
    with application_on(settings, empty_database), caplog.at_level(logging.WARNING, "alembic.runtime.migration"):
        alembic.command.upgrade(alembic_config(), "0017")
        with db.engine.begin() as connection:
            for number, email in enumerate(emails):
                connection.execute(
                    text("INSERT INTO users (id, email, name, password_hash) VALUES (:id, :email, 'A', 'x')"),
                    {"id": f"00000000-0000-7000-8000-00000000000{number}", "email": email},
                )
        alembic.command.upgrade(alembic_config(), "0018")
        with db.engine.connect() as connection:
            keys = {row.email: row.email_key for row in connection.execute(text("SELECT email, email_key FROM users"))}
    assert keys == {
        **{email: address_key(email) for email in ALONE},
        ALIKE[0]: "fi@example.org",  # the oldest
        ALIKE[1]: ALIKE[1],
        ALIKE[2]: ALIKE[2],
        PREFERRED[0]: PREFERRED[0],
        PREFERRED[1]: "zoe@example.org",
    }
    reports = [record.getMessage() for record in caplog.records if "look alike" in record.getMessage()]
    assert [report.count("00000000-0000") for report in reports] == [3, 2]
