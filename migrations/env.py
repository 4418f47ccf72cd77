"""Runs the migrations: one process at a time, and never waiting long for a lock that the application holds."""

import time

from alembic import context
from alembic.migration import MigrationContext
from alembic.util import CommandError
from click import ClickException
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

import app.models  # noqa: F401  # fills the metadata
from app.database import current_engine, current_engines, driver_message, require_own_session
from app.errors import OwnSessionRequired
from app.extensions import db

# Concurrent upgrades wait for this lock; the number is arbitrary.
UPGRADE_LOCK = 7_275_396_001
WAIT_FOR_OTHER_UPGRADE = 600.0  # seconds
RETRY_INTERVAL = 0.1  # seconds
NOT_POSSIBLE = 3  # exit code
# A statement that waits for a table lock blocks all later ones, so it fails soon, and the migration is repeated.
LOCK_TIMEOUT = "5s"

target_metadata = db.metadata


def run_offline() -> None:
    url = current_engine().url.render_as_string(hide_password=True)
    context.configure(url=url, target_metadata=target_metadata, literal_binds=True, transaction_per_migration=True)
    with context.begin_transaction():
        context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        context.run_migrations()


def run_online() -> None:
    with _connect(current_engines().get("direct", current_engine())) as connection:
        try:
            if not _is_pooled_without_change(connection):
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
            # It holds the advisory lock and changed settings, so it is closed, not returned to the pool.
            connection.invalidate()


def _connect(engine: Engine) -> Connection:
    """Open a connection. Raises `ClickException` if the database cannot be reached."""
    try:
        connection: Connection = engine.connect()
    except DBAPIError as error:
        raise ClickException(
            f"The database does not answer, so nothing was migrated: {driver_message(error)}"
        ) from error
    return connection


def _is_pooled_without_change(connection: Connection) -> bool:
    """Return whether the connection goes through a pooler, and the command changes nothing.

    Raises `ClickException` if it changes something there: the upgrade lock and the timeouts belong to the session, and
    CREATE INDEX CONCURRENTLY allows no transaction.
    """
    try:
        require_own_session(connection)
    except OwnSessionRequired as error:
        try:
            destination = context.get_revision_argument()
        except KeyError:  # a command that only reads, such as `flask db current`
            return True
        if destination == MigrationContext.configure(connection).get_current_revision():
            return True
        refusal = ClickException(error.detail)
        refusal.exit_code = NOT_POSSIBLE
        raise refusal from error
    return False


def _take_upgrade_lock(connection: Connection) -> None:
    """Acquire the upgrade lock by polling.

    A statement that waits for the lock holds a snapshot, and CREATE INDEX CONCURRENTLY in the other process waits for
    all snapshots to end, which PostgreSQL reports as a deadlock.
    """
    deadline = time.monotonic() + WAIT_FOR_OTHER_UPGRADE
    while not connection.execute(text(f"SELECT pg_try_advisory_lock({UPGRADE_LOCK})")).scalar_one():
        connection.rollback()
        if time.monotonic() > deadline:
            raise ClickException("Another process has been migrating for ten minutes; check what it is doing.")
        time.sleep(RETRY_INTERVAL)
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
