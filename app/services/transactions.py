"""The database session of a use-case outside the turn: its connection is back in the pool before anything is dumped."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import NotAuthenticated, NotFound, ParleyError
from app.extensions import db


@contextmanager
def statements() -> Iterator[Session]:
    """A session each of whose statements is a transaction of its own: one round trip for one read or one write.

    Raises `NotFound` where a project is named that is not there, `NotAuthenticated` where the account has just gone.
    """
    with _session(db.engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        yield session


@contextmanager
def transaction() -> Iterator[Session]:
    """A session whose statements stand or fall together; commits at the end. Raises as `statements` does."""
    with _session(db.engine) as session, session.begin():
        yield session


@contextmanager
def _session(engine: Engine) -> Iterator[Session]:
    try:
        # What was read is dumped after the connection went home, so nothing may expire and want it back.
        with Session(engine, expire_on_commit=False) as session:
            yield session
    except IntegrityError as error:
        raise _dangling(error) or error from None


def _dangling(error: IntegrityError) -> ParleyError | None:
    """What the caller got wrong, if a foreign key was violated: asking first would be a second read, and a race."""
    name = getattr(getattr(error.orig, "diag", None), "constraint_name", None) or ""
    if name.startswith("fk_") and name.endswith("_projects"):
        return NotFound("There is no such project.")
    if name.startswith("fk_") and name.endswith("_users"):
        return NotAuthenticated()
    return None
