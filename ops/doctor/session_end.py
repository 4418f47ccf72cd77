"""The end of one session of the database, on an operator's request."""

from dataclasses import dataclass
from typing import Annotated, Any

from app.bounds import INTEGER_MAX
from app.database import direct_connection
from app.errors import Conflict
from app.repositories.statement import Statement
from ops.doctor.sessions import DESCRIBED, Session

WAIT_MILLISECONDS = 2000  # for the session's process to end

_SESSION = Statement(
    "ops.session",
    f"""
SELECT {DESCRIBED}, a.datname IS NOT DISTINCT FROM current_database() AS is_here, a.datname AS database,
       coalesce(a.backend_type, 'client backend') AS type, a.pid = pg_backend_pid() AS is_own,
       a.backend_start::text AS began,
       coalesce(r.rolsuper, true) AND a.usename IS DISTINCT FROM current_user AS is_other_superuser,
       coalesce(pg_has_role(current_user, a.usesysid, 'USAGE'), false)
       OR pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS is_allowed, current_user AS role_of_parley
  FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
 WHERE a.pid = %(pid)s""",  # noqa: S608  # constants
)
# The start time, because the process id may belong to another session by now.
_END = Statement(
    "ops.end_session",
    """
SELECT pg_terminate_backend(a.pid, %(wait)s) AS ended
  FROM pg_stat_activity a
 WHERE a.pid = %(pid)s AND a.datname = current_database() AND a.backend_start::text IS NOT DISTINCT FROM %(began)s""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionToEnd:
    """A session that may be ended, and the start time that identifies it."""

    session: Session
    began: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSession:
    """A session that was ended: its open transaction is rolled back."""

    session: Annotated[Session, "The session as it was."]
    ended: Annotated[bool, "Whether its process has ended; false if it has not after two seconds."]


def find_session_to_end(pid: int) -> SessionToEnd:
    """Return the session with this process id.

    Raises `Conflict` without one, and for a session that may not be ended: of another database, a background process,
    the session of this operation, one of another superuser, or one of a role that Parley's role may not end.
    """
    if not 0 < pid <= INTEGER_MAX:
        raise Conflict(f"There is no session with the process id {pid}; `flask ops locks` lists sessions.")
    with direct_connection() as connection:
        row = _SESSION.one(connection, {"pid": pid})
    if row is None or (row.database is None and row.type == "client backend"):
        raise Conflict(f"There is no session with the process id {pid}; `flask ops locks` lists sessions.")
    if refusal := _refusal(pid, row):
        raise Conflict(refusal)
    session = Session(**{name: getattr(row, name) for name in Session.__dataclass_fields__})
    return SessionToEnd(session=session, began=row.began)


def end_session(found: SessionToEnd) -> EndedSession:
    """End a session that `find_session_to_end` returned. Raises `Conflict` if it has ended by itself."""
    values = {"pid": found.session.pid, "began": found.began, "wait": WAIT_MILLISECONDS}
    with direct_connection() as connection:
        row = _END.one(connection, values)
    if row is None:
        raise Conflict(f"The session {found.session.pid} has already ended.")
    return EndedSession(session=found.session, ended=row.ended)


def _refusal(pid: int, row: Any) -> str | None:
    if row.type != "client backend":
        return f"{pid} is the server's process '{row.type}', not a session of a client."
    if not row.is_here:
        return f"The session {pid} is of the database {row.database}, not of this one."
    if row.is_own:
        return f"{pid} is the session of this operation itself."
    if row.is_other_superuser:
        return f"The session {pid} is of the superuser {row.role or 'with a hidden name'}: only a superuser may end it."
    if not row.is_allowed:
        return (
            f"The role {row.role_of_parley} may not end sessions of {row.role}. Shall it? As a superuser: GRANT"
            f" pg_signal_backend TO {row.role_of_parley}"
        )
    return None
