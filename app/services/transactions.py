"""The ORM sessions of use cases outside a turn. Their connection is back in the pool before results are serialized."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import autocommit_engine, current_engine, violated_constraint
from app.errors import NotAuthenticated, NotFound, ParleyError
from app.services.interruption import interruptible

# Ambient, because views of any signature run inside it (docs/adr/0021-ambient-values.md). Only `unit_of_work` sets it.
_unit_of_work: ContextVar[Session | None] = ContextVar("unit_of_work", default=None)
_JOINED = "parley.joined"  # in Session.info


@contextmanager
def autocommit_session() -> Iterator[Session]:
    """Yield a session in which each statement is a transaction of its own: one round trip for one read or write.

    Raises `NotFound` for an unknown project, and `NotAuthenticated` if the user has just been deleted.
    """
    if _unit_of_work.get() is not None:
        with transaction() as session:
            yield session
        return
    with _session(autocommit_engine(current_engine())) as session, interruptible(session, commits=False):
        yield session


@contextmanager
def transaction() -> Iterator[Session]:
    """Yield a session whose statements are one transaction, committed at the end. Raises as `autocommit_session`."""
    joined = _unit_of_work.get()
    if joined is not None:
        joined.info[_JOINED] = True
        with _translated_errors():
            yield joined
        return
    with _session(current_engine()) as session, session.begin(), interruptible(session, commits=True):
        yield session


@contextmanager
def unit_of_work() -> Iterator[Session]:
    """Join everything that the block stores by the functions above into one transaction on one connection.

    `current_unit_of_work` is for work that must follow the commit. An error in a statement must end the block, because
    PostgreSQL accepts no more statements in that transaction.
    """
    with _session(current_engine()) as session, session.begin():
        token = _unit_of_work.set(session)
        try:
            yield session
        finally:
            _unit_of_work.reset(token)


def current_unit_of_work() -> Session | None:
    """Return the session of the surrounding `unit_of_work`, which commits at its end, or None outside of one."""
    return _unit_of_work.get()


def took_part(session: Session) -> bool:
    """Return whether anything was stored through the session of a `unit_of_work`."""
    return _JOINED in session.info


@contextmanager
def _session(engine: Engine) -> Iterator[Session]:
    # Objects are serialized after the connection was returned, so they must not expire and load again.
    with _translated_errors(), Session(engine, expire_on_commit=False) as session:
        yield session


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise _foreign_key_error(error) or error from None


def _foreign_key_error(error: IntegrityError) -> ParleyError | None:
    """Return the error for a violated foreign key. A check before the statement would be a second read, and a race."""
    name = violated_constraint(error) or ""
    if name.startswith("fk_") and name.endswith("_projects"):
        return NotFound("There is no such project.")
    if name.startswith("fk_") and name.endswith("_users"):
        return NotAuthenticated()
    return None
