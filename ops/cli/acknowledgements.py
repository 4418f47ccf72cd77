"""`flask ops doctor acknowledge`, `acknowledgements` and `withdraw`: accept a finding until an end date."""

from datetime import datetime
from uuid import UUID

import click
from flask.cli import AppGroup

from app.bounds import FINDING_OBJECT_LIMIT
from ops.cli.actions import operator
from ops.cli.base import json_option, print_report
from ops.doctor.acknowledgements import acknowledge, list_acknowledgements, withdraw
from ops.doctor.registry import CHECKS
from ops.doctor.run import run_doctor
from ops.runs.audit import audited


def add_to(doctor: AppGroup) -> None:
    """Add the commands to the group of the doctor."""
    for name, function in (
        ("acknowledge", acknowledge_finding),
        ("acknowledgements", list_all),
        ("withdraw", withdraw_acknowledgement),
    ):
        doctor.command(name)(function)


@click.argument("check")
@click.option(
    "--object", "of", metavar="NAME", help="The object of the finding, as the doctor shows it; needed if several."
)
@click.option("--reason", required=True, help="Why the finding is acceptable; stored and audited.")
@click.option(
    "--until",
    required=True,
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="The last day, in UTC.",
)
@json_option
def acknowledge_finding(check: str, of: str | None, reason: str, until: datetime, json: bool) -> None:
    """Accept a finding until a date: it stays visible and does not change the exit code."""
    if of is not None and len(of) > FINDING_OBJECT_LIMIT:
        raise click.UsageError(f"--object has more than {FINDING_OBJECT_LIMIT} characters.")
    by, details = operator(), {"object": of, "reason": reason, "until": until.date().isoformat()}
    checks = [candidate for candidate in CHECKS if candidate.id == check]
    if not checks:
        raise click.UsageError(f"There is no check {check}; `flask ops doctor --list` shows all.")
    with audited(actor=by, action="finding.acknowledge", target=check, details=details) as notes:
        (result,) = run_doctor(checks=checks).results
        accepted = acknowledge(
            check=check, findings=result.findings, of=of, reason=reason, until=until.date(), by=by.name
        )
        notes["id"], notes["object"], notes["level"] = str(accepted.id), accepted.object, accepted.level
    print_report("doctor acknowledge", accepted, json=json)


@json_option
def list_all(json: bool) -> None:
    """List the acknowledged findings with reason and end date, ended ones included."""
    print_report("doctor acknowledgements", list_acknowledgements(), json=json)


@click.argument("acknowledgement", type=click.UUID)
@json_option
def withdraw_acknowledgement(acknowledgement: UUID, json: bool) -> None:
    """End an acknowledgement now: its finding counts again."""
    with audited(actor=operator(), action="finding.withdraw", target=str(acknowledgement)) as notes:
        ended = withdraw(acknowledgement_id=acknowledgement)
        notes["check"], notes["object"] = ended.check, ended.object
    print_report("doctor withdraw", ended, json=json)
