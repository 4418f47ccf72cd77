"""The base of test installations on their own database: the owner's session and further connections."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from sqlalchemy import Connection, NullPool, make_url

from app.config import Settings
from app.database import engine_options, make_engine


@dataclass
class DatabaseInstallation:
    """A database with its settings. `owner` is a session of its owner, beside those of the code under test.

    `open` opens another session; keyword arguments change parts of the URL.
    """

    url: str
    settings: Settings
    owner: Connection
    open: Callable[..., Connection]

    def run(self, *statements: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run statements as the owner, each in its own transaction; return the rows of the last one.

        Without parameters, a percent sign is literal.
        """
        return run_on(self.owner, *statements, **parameters)

    def value(self, statement: str, **parameters: Any) -> Any:
        """Return the single value that a statement selects."""
        ((value,),) = self.run(statement, **parameters)
        return value


@contextmanager
def connecting(url: str, settings: Settings) -> Iterator[Callable[..., Connection]]:
    """Yield a function that opens AUTOCOMMIT connections to `url`, which end with the block."""
    with ExitStack() as stack:

        def connect(**changes: Any) -> Connection:
            options = engine_options(settings.database)["connect_args"]
            changed = make_url(url).set(**changes).render_as_string(hide_password=False)
            engine = make_engine(changed, poolclass=NullPool, connect_args=options)
            return stack.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))

        yield connect


def run_on(connection: Connection, *statements: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run statements with the driver, because SQLAlchemy would look for parameters in unusual names."""
    rows: list[tuple[Any, ...]] = []
    with closing(connection.connection.cursor()) as cursor:
        for statement in statements:
            cursor.execute(statement, parameters or None)  # type: ignore[arg-type]
            rows = list(cursor.fetchall()) if cursor.description else []
    return rows


def run_sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a new connection; return the rows of the last one."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()
