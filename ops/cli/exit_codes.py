"""Exit codes of all `flask ops` commands.

0 ok, 1 warning, 2 critical or command failed, 3 unknown or not possible here, 4 another run is in progress, 64 usage
error or declined, 130 interrupted.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ops.cli.progress import show_progress
from ops.levels import USAGE

FAILED, UNKNOWN, LOCKED = 2, 3, 4
INTERRUPTED = 130  # 128 + SIGINT, as shells report it

_log = logging.getLogger("parley.ops")


@contextmanager
def exit_codes(ctx: click.Context) -> Iterator[None]:
    """Turn exceptions of a command into a message on standard error and an exit code of this module."""
    try:
        with show_progress():
            yield
    except click.UsageError as error:
        error.exit_code = USAGE  # type: ignore[misc]  # click reads it from the instance
        raise
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        ctx.exit(INTERRUPTED)
    except click.Abort:
        click.echo("Aborted.", err=True)
        ctx.exit(USAGE)
    except (click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:
        expected = _message_and_code(error)
        if expected is None:
            # Python would exit with 1, which means warning here.
            _log.exception("command failed")
            ctx.exit(FAILED)
        message, code = expected
        for line in message.splitlines():
            click.secho(f"parley: {line}", err=True, fg="red")
        ctx.exit(code)


def _message_and_code(error: Exception) -> tuple[str, int] | None:
    """Return what to print for an error that commands expect, and its exit code; None for any other error."""
    # Imported now, because the help of a command needs neither the database nor the application.
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    from app.database import driver_message
    from app.errors import DatabaseUnavailable, InvalidInput, NotFound, OwnSessionRequired, ParleyError
    from app.lock_waits import waited_for_lock
    from app.logs import redact
    from ops.errors import AlreadyRunning, UnknownState

    if isinstance(error, AlreadyRunning):
        return error.detail, LOCKED
    if isinstance(error, OwnSessionRequired):
        return error.detail, UNKNOWN
    if isinstance(error, UnknownState):
        return error.reason + (f" Try: {error.remedy}" if error.remedy else ""), UNKNOWN
    if isinstance(error, InvalidInput | NotFound):
        fields = "".join(f" {name}: {' '.join(messages)}" for name, messages in (error.fields or {}).items())
        return error.detail + fields, USAGE
    if isinstance(error, DatabaseUnavailable | PoolTimeout):
        return driver_message(error), UNKNOWN
    if isinstance(error, DBAPIError) and waited_for_lock(error):
        return "Another session holds a lock that this command needs: `flask ops locks` shows it.", UNKNOWN
    if isinstance(error, DBAPIError):
        return f"Database error: {redact(driver_message(error))}", UNKNOWN
    return (error.detail, FAILED) if isinstance(error, ParleyError) else None
