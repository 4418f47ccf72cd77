"""Letting a restored database take the place of the present one, which is kept under another name."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError

from app.database import direct_connection, said
from app.extensions import db
from app.repositories.statement import Statement
from ops.backup.errors import RestoreFailed
from ops.backup.target import Target

MAINTENANCE = "postgres"  # the database that one is connected to cannot be renamed

KNOWN = Statement("backup.known_database", "SELECT 1 AS yes FROM pg_catalog.pg_database WHERE datname = %(name)s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """`database` is now what was `restored`; what was there before is `kept`."""

    database: str
    restored: str
    kept: str


def switch(*, restored: str) -> Switched:
    """Rename the present database to `NAME_before_...`, and `restored` to its name. Both in one transaction.

    Raises `RestoreFailed` while somebody is connected to either; then nothing was changed.
    """
    with direct_connection() as connection:
        here = Target.of(connection)
    for engine in db.engines.values():
        engine.dispose()  # ours count too
    kept = f"{here.database[:40]}_before_{datetime.now(UTC):%Y%m%d_%H%M%S}"
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", name) for name in (restored, here.database)):
        raise RestoreFailed("A name other than letters, digits, _ and - is not renamed here: use ALTER DATABASE.")
    try:
        with here.on(MAINTENANCE).connected() as admin:
            if KNOWN.one(admin, {"name": restored}) is None:
                raise RestoreFailed(f"There is no database called {restored} on this server. Nothing was changed.")
            admin.exec_driver_sql(
                f'BEGIN; ALTER DATABASE "{here.database}" RENAME TO "{kept}";'
                f'ALTER DATABASE "{restored}" RENAME TO "{here.database}"; COMMIT'
            )
    except DBAPIError as error:
        raise RestoreFailed(f"{said(error)} Nothing was changed: stop Parley and whoever else is connected.") from error
    return Switched(database=here.database, restored=restored, kept=kept)
