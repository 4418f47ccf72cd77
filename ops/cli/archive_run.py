"""`flask ops archive run`, `restore` and `verify`."""

from uuid import UUID

import click

from app.enums import ArchiveRunState
from ops.archive import restore as undo
from ops.archive.plan import plan as make_plan
from ops.archive.run import Bounds
from ops.archive.run import run as run_archive
from ops.archive.verify import verify as verify_bundles
from ops.catalogue.jobs import ARCHIVE, VERIFY_ARCHIVE
from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import command, json_option, print_report, yes_option
from ops.levels import Level
from ops.runs.audit import audited
from ops.runs.run import recorded_command
from ops.users import users


@command("run")
@click.option("--resume", type=click.UUID, metavar="RUN", help="Continue an incomplete run.")
@click.option("--dry-run", is_flag=True, help="Show what would be archived, without doing it.")
@click.option("--max-rows", type=click.IntRange(1), help="Stop after about this many messages.")
@click.option("--max-minutes", type=click.FloatRange(0, min_open=True), help="Stop after this time.")
@yes_option
@json_option
def run(
    resume: UUID | None, dry_run: bool, max_rows: int | None, max_minutes: float | None, yes: bool, json: bool
) -> None:
    """Archive conversations that were idle for ARCHIVE_AFTER_DAYS.

    Exit code 4 while another run is in progress.
    """
    planned = make_plan(resume=resume)
    if dry_run:
        print_report("archive run --dry-run", planned, json=json)
        return
    confirm(
        ChangePlan(
            summary=f"move {planned.messages:,} messages of {planned.conversations:,} conversations into bundles. The"
            " conversations' status becomes archived: they leave the list of active conversations, and users find and"
            " read them among the archived ones.",
            locks="each conversation for less than a second",
            undo="flask ops archive restore --run, with the run id of the report",
        ),
        yes=yes,
    )
    bounds = Bounds(messages=max_rows, seconds=max_minutes * 60 if max_minutes else None)
    with audited(actor=operator(), action="archive.run", target=str(resume) if resume else None) as notes:
        with recorded_command(ARCHIVE) as record:
            finished = run_archive(resume=resume, bounds=bounds, total=planned.conversations)
            if finished.state == ArchiveRunState.COMPLETED:
                record(finished)
        notes["run"], notes["conversations"] = str(finished.id), finished.conversations
    ended_well = finished.state in (ArchiveRunState.COMPLETED, ArchiveRunState.STOPPED) and not finished.rejected
    print_report("archive run", finished, json=json, level=Level.OK if ended_well else Level.WARNING)


@command("verify")
@click.option("--max-minutes", type=click.FloatRange(0, min_open=True), help="Stop after this time.")
@json_option
def verify(max_minutes: float | None, json: bool) -> None:
    """Read all bundles and check where the messages of each conversation are stored."""
    with recorded_command(VERIFY_ARCHIVE) as record:
        report = verify_bundles(seconds=max_minutes * 60 if max_minutes else None)
        if report.complete:
            record(report)
    print_report("archive verify", report, json=json, level=Level.CRITICAL if report.damaged else Level.OK)


@command("restore")
@click.option("--run", "run_id", type=click.UUID, metavar="RUN", help="Restore what this run archived.")
@click.option("--conversation", type=click.UUID, metavar="ID", help="Restore this conversation.")
@click.option("--user", metavar="ID|EMAIL", help="Restore all conversations of this user.")
@click.option("--dry-run", is_flag=True, help="Show what would be restored, without doing it.")
@yes_option
@json_option
def restore(
    run_id: UUID | None, conversation: UUID | None, user: str | None, dry_run: bool, yes: bool, json: bool
) -> None:
    """Restore archived conversations of a run or a user, or one conversation."""
    if sum(option is not None for option in (run_id, conversation, user)) != 1:
        raise click.UsageError("Pass exactly one of --run, --conversation and --user.")

    def restore_selected(dry_run: bool) -> undo.BundleRestoreReport:
        if run_id is not None:
            return undo.restore_run(run_id=run_id, dry_run=dry_run)
        if conversation is not None:
            return undo.restore_conversation(conversation_id=conversation, dry_run=dry_run)
        assert user is not None  # noqa: S101  # checked above
        return undo.restore_user(user_id=users.find_id(user), dry_run=dry_run)

    planned = restore_selected(dry_run=True)
    if dry_run:
        print_report("archive restore --dry-run", planned, json=json)
        return
    confirm(
        ChangePlan(
            summary=f"move the messages of {planned.restored:,} conversations back into the live table.",
            locks="each conversation while its messages are written",
            undo="they are archived again after ARCHIVE_AFTER_DAYS without a change",
        ),
        yes=yes,
    )
    target = str(run_id or conversation or users.find_id(str(user)))  # as the admin API names it
    with audited(actor=operator(), action="archive.restore", target=target) as notes:
        restored = restore_selected(dry_run=False)
        notes["restored"], notes["damaged"] = restored.restored, restored.damaged
    level = Level.CRITICAL if restored.damaged else Level.WARNING if restored.busy or restored.more else Level.OK
    print_report("archive restore", restored, json=json, level=level)
