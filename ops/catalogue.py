"""The catalogue: every job, check and duty, once. Beat, worker, command line, admin API, runbooks and documentation
take them from here; each names the function that does it, and the thresholds of a check stand beside that. The checks
are many, and written down in `ops/catalogue_checks.py`.
"""

from datetime import timedelta

from ops.catalogue_checks import CHECKS as CHECKS
from ops.declarations import Duty, Job, Monthly, Part, Schedule, daily, weekly

BEAT_TICK = Job(
    name="beat.tick",
    does="Shows that beat, broker and a worker work together, and closes runs whose worker has gone.",
    where="ops.care.beat:tick",
    longest=timedelta(seconds=20),
    schedule=Schedule(timedelta(seconds=30)),
    keep=timedelta(days=7),
)
CLOSE_STALE_TURNS = Job(
    name="turns.close_stale",
    does="Closes turns as interrupted whose worker has gone silent, so that their conversations can go on.",
    where="ops.care.scheduled:close_stale_turns",
    longest=timedelta(seconds=60),
    schedule=Schedule(timedelta(seconds=30), timedelta(seconds=15)),
    keep=timedelta(days=7),
)
PURGE_SESSIONS = Job(
    name="sessions.purge_expired",
    does="Deletes sessions that ended more than SESSIONS_KEEP_DAYS ago.",
    where="ops.care.scheduled:purge_ended_sessions",
    longest=timedelta(minutes=10),
    schedule=daily(3, 10),
)
PURGE_API_KEYS = Job(
    name="api_keys.purge_ended",
    does="Deletes API keys that ended more than API_KEYS_KEEP_DAYS ago.",
    where="ops.care.scheduled:purge_ended_api_keys",
    longest=timedelta(minutes=10),
    schedule=daily(3, 20),
)
PURGE_IDEMPOTENCY_KEYS = Job(
    name="idempotency_keys.purge_expired",
    does="Frees idempotency keys that are more than a day old, so that they can be used anew.",
    where="ops.care.scheduled:free_old_keys",
    longest=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=20)),
)
PURGE_TURN_EVENTS = Job(
    name="turn_events.purge",
    does="Deletes what streams said more than TURN_EVENTS_KEEP_HOURS ago; messages stay.",
    where="ops.care.scheduled:purge_old_turn_events",
    longest=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=40)),
)
PURGE_JOB_RUNS = Job(
    name="job_runs.purge",
    does="Deletes the history of jobs that is older than JOB_RUNS_KEEP_DAYS.",
    where="ops.care.scheduled:purge_old_job_runs",
    longest=timedelta(minutes=10),
    schedule=daily(3, 40),
)
INDEX_CONVERSATIONS = Job(
    name="search.index_conversations",
    does="Writes what conversations are found by, after a turn in them or a new title.",
    where="ops.care.search:index_conversations",
    longest=timedelta(minutes=5),
    exclusive=False,
    keep=timedelta(days=1),
)
ERASE_ACCOUNT = Job(
    name="accounts.erase",
    does="Erases an account and all it has, as an admin asked for, and writes the receipt.",
    where="ops.accounts.erasure:erase_asked",
    longest=timedelta(minutes=30),
    exclusive=False,
)
SWEEP_SEARCH = Job(
    name="search.sweep",
    does="Finds conversations whose search document is missing or behind, and writes it.",
    where="ops.care.search:sweep",
    longest=timedelta(minutes=5),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=50)),
)
BACK_UP = Job(
    name="backups.daily",
    does="Takes a backup, reads it back, and removes the old ones that need not be kept.",
    where="ops.backup.scheduled:daily",
    longest=timedelta(hours=1),
    schedule=daily(2, 10),
)
DRILL = Job(
    name="backups.weekly_drill",
    does="Proves the newest backup: restores it into a scratch database and compares every table.",
    where="ops.backup.scheduled:weekly_drill",
    longest=timedelta(hours=1),
    schedule=weekly(6, 4, 10),
)
OBSERVE_BACKUPS = Job(
    name="backups.observe",
    does="Reads from the backups' store what there is, for the metrics.",
    where="ops.backup.scheduled:observe",
    longest=timedelta(minutes=2),
    schedule=Schedule(timedelta(minutes=5), timedelta(minutes=2)),
    keep=timedelta(days=7),
)
VERIFY_BACKUPS = Job(
    name="backups.verify",
    does="Reads backups and compares them with their manifests, as an operator asked for; restores nothing.",
    where="ops.backup.scheduled:verify_asked",
    longest=timedelta(hours=1),
    deliveries=1,
)
PRUNE_BACKUPS = Job(
    name="backups.prune",
    does="Removes the backups that BACKUP_KEEP_DAILY, _WEEKLY and _MONTHLY do not ask for, as an operator asked for.",
    where="ops.backup.prune:prune",
    longest=timedelta(hours=1),
)

ARCHIVE = Job(
    name="archive.run",
    does="Moves the messages of conversations that have been idle for ARCHIVE_AFTER_DAYS into bundles.",
    where="ops.archive.run:run_scheduled",
    longest=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=10)),
)
UNDO_ARCHIVE = Job(
    name="archive.undo",
    does="Takes back what one run of the archival has bundled, as an operator asked for.",
    where="ops.archive.restore:undo_asked",
    longest=timedelta(minutes=30),
)
RESTORE_ACCOUNT = Job(
    name="archive.restore_account",
    does="Takes all bundled conversations of an account out of their bundles, as an operator asked for.",
    where="ops.archive.restore:restore_account_asked",
    longest=timedelta(minutes=30),
    exclusive=False,
)
MEASURE_ARCHIVE = Job(
    name="archive.measure",
    does="Counts what waits to be archived and for how long, for metrics and alerts.",
    where="ops.archive.backlog:measure",
    longest=timedelta(minutes=5),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=5)),
    keep=timedelta(days=7),
)
VERIFY_ARCHIVE = Job(
    name="archive.verify",
    does="Reads bundles and looks whether they still are what was stored, for metrics and alerts.",
    where="ops.archive.verify:verify_daily",
    longest=timedelta(minutes=10),
    schedule=daily(4, 25),
)
RECORD_FIGURES = Job(
    name="figures.record",
    does="Writes down how large the tables are and what was counted of each statement, for comparison later.",
    where="ops.figures.record:record",
    longest=timedelta(minutes=2),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=5)),
)
EXAMINE = Job(
    name="doctor.examine",
    does="Asks the doctor's checks and records their answers for metrics and alerts.",
    where="ops.doctor:routine",
    longest=timedelta(minutes=5),
    schedule=Schedule(timedelta(minutes=10), timedelta(minutes=3)),
    keep=timedelta(days=7),
)
EXAMINE_THOROUGHLY = Job(
    name="doctor.examine_thoroughly",
    does="Asks those of the doctor's checks that read much, such as every page of every index.",
    where="ops.doctor:thorough_routine",
    longest=timedelta(hours=1),
    schedule=daily(4, 40),
)
PLAN_INDEXES = Job(
    name="indexes.plan",
    does="Plans what would mend the indexes, for somebody to read; changes nothing.",
    where="ops.indexes.asked:plan",
    longest=timedelta(minutes=10),
    schedule=weekly(0, 5, 15),
)
APPLY_INDEX_PLAN = Job(
    name="indexes.apply",
    does="Applies a plan for the indexes that an operator has read and asked for.",
    where="ops.indexes.asked:apply_planned",
    longest=timedelta(hours=1),
    deliveries=1,
)
DAILY_DUTY = Job(
    name="duties.daily",
    does="Looks at query performance, errors and the last backup, and keeps the report.",
    where="ops.duties.run:daily",
    longest=timedelta(minutes=10),
    schedule=daily(5, 30),
)
WEEKLY_DUTY = Job(
    name="duties.weekly",
    does="Looks at slow queries, the growth of tables, the use of indexes and the restore drill, and keeps the report.",
    where="ops.duties.run:weekly",
    longest=timedelta(minutes=10),
    schedule=weekly(0, 5, 40),
)
MONTHLY_DUTY = Job(
    name="duties.monthly",
    does="Looks at the archival, at what indexes could be improved and at the documents, and keeps the report.",
    where="ops.duties.run:monthly",
    longest=timedelta(minutes=20),
    schedule=Monthly(1, timedelta(hours=5, minutes=50)),
)

JOBS: tuple[Job, ...] = (
    BEAT_TICK,
    CLOSE_STALE_TURNS,
    PURGE_SESSIONS,
    PURGE_API_KEYS,
    PURGE_IDEMPOTENCY_KEYS,
    PURGE_TURN_EVENTS,
    PURGE_JOB_RUNS,
    INDEX_CONVERSATIONS,
    ERASE_ACCOUNT,
    SWEEP_SEARCH,
    BACK_UP,
    DRILL,
    OBSERVE_BACKUPS,
    VERIFY_BACKUPS,
    PRUNE_BACKUPS,
    ARCHIVE,
    UNDO_ARCHIVE,
    RESTORE_ACCOUNT,
    MEASURE_ARCHIVE,
    VERIFY_ARCHIVE,
    RECORD_FIGURES,
    EXAMINE,
    EXAMINE_THOROUGHLY,
    PLAN_INDEXES,
    APPLY_INDEX_PLAN,
    DAILY_DUTY,
    WEEKLY_DUTY,
    MONTHLY_DUTY,
)

INDEX_CHECKS = tuple(check for check in CHECKS if check.group in ("indexes", "tables"))

DUTIES: tuple[Duty, ...] = (
    Duty(
        name="daily",
        does="Query performance, errors, and whether the backup was completed.",
        job=DAILY_DUTY,
        parts=(
            Part(name="query performance", checks=("statements",), where="ops.duties.queries:of_a_day"),
            Part(name="errors", checks=("jobs.failed",), where="ops.duties.errors:of_a_day"),
            Part(name="backup completed", checks=("backup.recent",), where="ops.duties.backups:last_backup"),
        ),
    ),
    Duty(
        name="weekly",
        does="Slow queries, the growth of tables, the use of indexes, and the restore drill.",
        job=WEEKLY_DUTY,
        parts=(
            Part(name="slow queries", where="ops.duties.queries:of_a_week"),
            Part(name="table growth", checks=("storage.disk", "storage.growth"), where="ops.duties.growth:of_a_week"),
            Part(name="index usage", checks=("indexes",), where="ops.duties.indexes:usage"),
            Part(name="restore drill", checks=("backup.drill",), where="ops.duties.backups:last_drill"),
        ),
    ),
    Duty(
        name="monthly",
        does="The archival, what indexes could be improved, and the documents.",
        job=MONTHLY_DUTY,
        parts=(
            Part(name="archival", checks=("archive",), where="ops.duties.archival:of_a_month"),
            Part(name="index optimisation", checks=("indexes", "tables"), where="ops.duties.indexes:optimisation"),
            Part(name="table growth", where="ops.duties.growth:of_a_month"),
            Part(name="documents", where="ops.duties.documents:up_to_date"),
        ),
    ),
)
