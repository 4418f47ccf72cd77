"""`flask ops archive`: idle conversations into bundles, and out again; legal holds."""

from uuid import UUID

import click

from app.models import ArchiveRunState
from ops.accounts import people
from ops.archive import holds as legal
from ops.archive import restore as undo
from ops.archive.plan import plan as make_plan
from ops.archive.run import Bounds
from ops.archive.run import run as run_archive
from ops.archive.status import status as read_status
from ops.archive.verify import verify as verify_bundles
from ops.audit import audited
from ops.cli.frame import Plan, ask, json_option, operator, ops, tell, yes_option
from ops.levels import Level


@ops.group("archive")
def archive() -> None:
    """Idle conversations, in bundles and out again."""


@archive.command("plan")
@click.option("--resume", type=click.UUID, metavar="RUN", help="What is left of that run.")
@json_option
def plan(resume: UUID | None, json: bool) -> None:
    """What a run would archive."""
    tell("archive plan", make_plan(resume=resume), json=json)


@archive.command("run")
@click.option("--resume", type=click.UUID, metavar="RUN", help="Go on with a run that did not complete.")
@click.option("--dry-run", is_flag=True, help="Only say what it would archive.")
@click.option("--max-rows", type=click.IntRange(1), help="Stop after about so many messages.")
@click.option("--max-minutes", type=click.FloatRange(0, min_open=True), help="Stop after so long.")
@yes_option
@json_option
def run(
    resume: UUID | None, dry_run: bool, max_rows: int | None, max_minutes: float | None, yes: bool, json: bool
) -> None:
    """Archive what has been idle for ARCHIVE_AFTER_DAYS; exit code 4 while another run is under way."""
    planned = make_plan(resume=resume)
    if dry_run:
        tell("archive run --dry-run", planned, json=json)
        return
    ask(
        Plan(
            does=f"move {planned.messages:,} messages of {planned.conversations:,} conversations into bundles; they"
            " list and read as before.",
            locks="each conversation for less than a second, while nobody has written to it for so long",
            undo="flask ops archive restore --run, with the id that the report shows",
        ),
        yes=yes,
    )
    bounds = Bounds(messages=max_rows, seconds=max_minutes * 60 if max_minutes else None)
    with audited(by=operator(), action="archive.run", on=str(resume) if resume else None) as notes:
        done = run_archive(resume=resume, bounds=bounds, total=planned.conversations)
        notes["run"], notes["conversations"] = str(done.id), done.conversations
    ended_well = done.state in (ArchiveRunState.COMPLETED, ArchiveRunState.STOPPED) and not done.unfit
    tell("archive run", done, json=json, level=Level.OK if ended_well else Level.WARNING)


@archive.command("status")
@click.option("--runs", "latest", type=click.IntRange(0, 1000), default=5, show_default=True, help="At most so many.")
@json_option
def status(latest: int, json: bool) -> None:
    """What waits and for how long, what is bundled, and the latest runs; a warning when it does not keep up."""
    found = read_status(latest=latest)
    tell("archive status", found, json=json, level=found.level)


@archive.command("verify")
@click.option("--max-minutes", type=click.FloatRange(0, min_open=True), help="Stop after so long.")
@json_option
def verify(max_minutes: float | None, json: bool) -> None:
    """Read every bundle, and look where every conversation's messages are."""
    found = verify_bundles(seconds=max_minutes * 60 if max_minutes else None)
    tell("archive verify", found, json=json, level=Level.CRITICAL if found.damaged else Level.OK)


@archive.command("restore")
@click.option("--run", "run_id", type=click.UUID, metavar="RUN", help="What that run has bundled.")
@click.option("--conversation", type=click.UUID, metavar="ID", help="That conversation.")
@click.option("--user", metavar="ID|EMAIL", help="All of that user's.")
@click.option("--dry-run", is_flag=True, help="Only say what it would restore.")
@yes_option
@json_option
def restore(
    run_id: UUID | None, conversation: UUID | None, user: str | None, dry_run: bool, yes: bool, json: bool
) -> None:
    """Take conversations out of their bundles: by run, by conversation or by user."""
    if sum(each is not None for each in (run_id, conversation, user)) != 1:
        raise click.UsageError("Say what to restore: one of --run, --conversation and --user.")

    def act(dry_run: bool) -> undo.Restored:
        if run_id is not None:
            return undo.restore_run(run_id=run_id, dry_run=dry_run)
        if conversation is not None:
            return undo.restore_conversation(conversation_id=conversation, dry_run=dry_run)
        assert user is not None  # noqa: S101  # one of the three is given
        return undo.restore_user(user_id=people.id_of(user), dry_run=dry_run)

    planned = act(dry_run=True)
    if dry_run:
        tell("archive restore --dry-run", planned, json=json)
        return
    ask(
        Plan(
            does=f"put the messages of {planned.restored:,} conversations back into the live table.",
            locks="each conversation while its messages are written",
            undo="they are archived again when they have been idle for as long as any other",
        ),
        yes=yes,
    )
    which = str(run_id or conversation or people.id_of(str(user)))  # as the admin API names it
    with audited(by=operator(), action="archive.restore", on=which) as notes:
        done = act(dry_run=False)
        notes["restored"], notes["damaged"] = done.restored, done.damaged
    level = Level.CRITICAL if done.damaged else Level.WARNING if done.busy or done.more else Level.OK
    tell("archive restore", done, json=json, level=level)


@archive.group("hold")
def hold() -> None:
    """Legal holds: what may be neither deleted nor archived."""


@hold.command("add")
@click.option("--conversation", type=click.UUID, metavar="ID", help="That conversation.")
@click.option("--user", metavar="ID|EMAIL", help="All that this user has now; later ones are not held.")
@click.option("--reason", required=True, help="Why; kept with the hold.")
@json_option
def add(conversation: UUID | None, user: str | None, reason: str, json: bool) -> None:
    """Hold a conversation, or all that a user has now."""
    if (conversation is None) == (user is None):
        raise click.UsageError("Say what to hold: --conversation or --user.")
    by = operator()
    which = str(conversation or people.id_of(str(user)))  # as the admin API names it
    with audited(by=by, action="hold.add", on=which, details={"reason": reason}) as notes:
        if conversation is not None:
            held = legal.hold_conversation(conversation_id=conversation, reason=reason, by=by.name)
        else:
            assert user is not None  # noqa: S101  # one of the two is given
            held = legal.hold_user(user_id=people.id_of(user), reason=reason, by=by.name)
        notes["held"] = held.held
    tell("archive hold add", held, json=json)


@hold.command("remove")
@click.argument("hold_id", type=click.UUID, metavar="HOLD")
@yes_option
@json_option
def remove(hold_id: UUID, yes: bool, json: bool) -> None:
    """Lift a hold."""
    ask(
        Plan(does="lift the hold: its owner may delete the conversation then.", undo="flask ops archive hold add"),
        yes=yes,
    )
    with audited(by=operator(), action="hold.remove", on=str(hold_id)) as notes:
        lifted = legal.lift(hold_id=hold_id)
        notes["conversation"] = str(lifted.conversation_id)
    tell("archive hold remove", lifted, json=json)


@hold.command("list")
@click.option("--user", metavar="ID|EMAIL", help="Only of this user.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@json_option
def list_holds(user: str | None, limit: int, json: bool) -> None:
    """What is held, why, and who said so."""
    tell("archive hold list", legal.holds(user_id=people.id_of(user) if user else None, limit=limit), json=json)
