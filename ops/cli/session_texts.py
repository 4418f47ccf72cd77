"""Texts about a session of the database, as commands print them."""

from datetime import timedelta

from ops.doctor.sessions import Session
from ops.formatting import format_duration


def describe_blocker(pid: int, session: Session | None) -> str:
    """Return process id, application, statement and state of a session that others wait for."""
    if pid == 0:
        return "a prepared transaction"
    if session is None:
        return f"{pid}, already ended"
    transaction = f", transaction open for {format_seconds(session.transaction_seconds)}"
    return f"{pid} {session.application} {session.statement} ({session.state}{transaction})"


def format_seconds(seconds: float | None) -> str:
    """Format a number of seconds as a duration, and None as a dash."""
    return "–" if seconds is None else format_duration(timedelta(seconds=seconds))
