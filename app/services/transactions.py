"""The database session of a use-case outside the turn: its connection is back in the pool before anything is dumped."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import NotAuthenticated, NotFound, ParleyError
from app.extensions import db

_whole: ContextVar[Session | None] = ContextVar("whole", default=None)  # what `as_one` has begun around us
_JOINED = "parley.joined"  # in Session.info


@contextmanager
def statements() -> Iterator[Session]:
    """A session each of whose statements is a transaction of its own: one round trip for one read or one write.

    Raises `NotFound` where a project is named that is not there, `NotAuthenticated` where the account has just gone.
    """
    if _whole.get() is not None:
        with transaction() as session:
            yield session
        return
    with _session(db.engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        yield session


@contextmanager
def transaction() -> Iterator[Session]:
    """A session whose statements stand or fall together; commits at the end. Raises as `statements` does."""
    whole = _whole.get()
    if whole is not None:
        whole.info[_JOINED] = True
        with _explained():
            yield whole
        return
    with _session(db.engine) as session, session.begin():
        yield session


@contextmanager
def as_one() -> Iterator[Session]:
    """Everything that the block stores by `statements` and `transaction` stands or falls together, on one connection.

    What must follow the commit asks `whole` for the session. An error in one of them must end the block: PostgreSQL
    takes nothing more in that transaction.
    """
    with _session(db.engine) as session, session.begin():
        token = _whole.set(session)
        try:
            yield session
        finally:
            _whole.reset(token)


def whole() -> Session | None:
    """The session of the `as_one` that we are in: what is stored is not committed before that ends."""
    return _whole.get()


def was_joined(session: Session) -> bool:
    """Whether anything went into the session of an `as_one`."""
    return _JOINED in session.info


@contextmanager
def _session(engine: Engine) -> Iterator[Session]:
    # What was read is dumped after the connection went home, so nothing may expire and want it back.
    with _explained(), Session(engine, expire_on_commit=False) as session:
        yield session


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
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
