"""Runs the migrations: one process at a time, and never waiting long for a lock that the application holds."""

import time

from alembic import context
from alembic.util import CommandError
from click import ClickException
from flask import current_app
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from app.database import said

# Two processes that upgrade at once queue here; any constant will do that nobody else uses.
UPGRADE_LOCK = 7_275_396_001
WAIT_FOR_OTHER_UPGRADE = 600.0  # seconds
LOOK_AGAIN = 0.1
# A migration that waits for a table lock makes everybody behind it wait too, so it gives up soon and is tried again.
LOCK_TIMEOUT = "5s"

target_metadata = current_app.extensions["migrate"].db.metadata


def run_offline() -> None:
    url = current_app.extensions["migrate"].db.engine.url.render_as_string(hide_password=True)
    context.configure(url=url, target_metadata=target_metadata, literal_binds=True, transaction_per_migration=True)
    with context.begin_transaction():
        context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        context.run_migrations()


def run_online() -> None:
    engine = current_app.extensions["migrate"].db.engine
    with _connected(engine) as connection:
        try:
            _take_upgrade_lock(connection)
            context.configure(
                connection=connection,
                target_metadata=target_metadata,
                transaction_per_migration=True,
                compare_type=True,
                compare_server_default=True,
            )
            with context.begin_transaction():
                context.run_migrations()
        except CommandError as error:
            if "Can't locate revision" not in str(error):
                raise
            raise ClickException(f"{error}; this code is older than its database: deploy the newer") from error
        finally:
            # It holds the advisory lock and changed settings: closed, never returned to the pool.
            connection.invalidate()


def _connected(engine: Engine) -> Connection:
    """Raises `ClickException`, one line on the command line, where the database cannot be reached."""
    try:
        connection: Connection = engine.connect()
    except DBAPIError as error:
        raise ClickException(f"The database does not answer, so nothing was migrated: {said(error)}") from error
    return connection


def _take_upgrade_lock(connection: Connection) -> None:
    """Asks again and again: whoever waits inside a statement has a snapshot, and CREATE INDEX CONCURRENTLY in the other
    process waits for the end of all snapshots: PostgreSQL calls that a deadlock."""
    deadline = time.monotonic() + WAIT_FOR_OTHER_UPGRADE
    while not connection.execute(text(f"SELECT pg_try_advisory_lock({UPGRADE_LOCK})")).scalar_one():
        connection.rollback()
        if time.monotonic() > deadline:
            raise ClickException("Another process has been migrating for ten minutes; look at what it does.")
        time.sleep(LOOK_AGAIN)
    connection.execute(
        text(
            f"SET statement_timeout = 0; SET lock_timeout = '{LOCK_TIMEOUT}';"
            " SET idle_in_transaction_session_timeout = 0"
        )
    )
    connection.commit()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
