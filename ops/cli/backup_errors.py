"""Errors of backups as errors of commands."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from app.storage.errors import StorageUnavailable
from ops.backup.errors import DrillAborted, NoSuchBackup
from ops.errors import UnknownState


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate an unavailable store and an aborted drill to `UnknownState`, a wrong name to a usage error."""
    try:
        yield
    except (StorageUnavailable, DrillAborted) as error:
        raise UnknownState(error.detail) from error
    except NoSuchBackup as error:
        raise click.UsageError(error.detail) from None
