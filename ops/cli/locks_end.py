"""`flask ops locks --end PID`: the end of one session."""

from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import print_report
from ops.cli.session_texts import describe_blocker
from ops.doctor.session_end import end_session, find_session_to_end
from ops.levels import Level
from ops.runs.audit import audited


def end(pid: int, *, yes: bool, json: bool) -> None:
    """Confirm, audit and end the session of this process id."""
    found = find_session_to_end(pid)
    session = found.session
    confirm(
        ChangePlan(
            summary=f"end the session {describe_blocker(pid, session)} of the role {session.role}.",
            undo="none; its open transaction is rolled back, and its request or command fails",
        ),
        yes=yes,
    )
    details = {"application": session.application, "role": session.role, "statement": session.statement}
    with audited(actor=operator(), action="session.end", target=str(pid), details=details) as notes:
        ended = end_session(found)
        notes["ended"] = ended.ended
    print_report("locks --end", ended, json=json, level=Level.OK if ended.ended else Level.WARNING)
