"""The catalogue: every job and every check, once. Beat, worker, command line, admin API, runbooks and documentation
take them from here; each names the function that does it, and the thresholds of a check stand beside that.
"""

from datetime import timedelta

from ops.declarations import Check, Job, Schedule
from ops.levels import Level

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
    schedule=Schedule(timedelta(days=1), timedelta(hours=3, minutes=10)),
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
    schedule=Schedule(timedelta(days=1), timedelta(hours=3, minutes=40)),
)
INDEX_CONVERSATIONS = Job(
    name="search.index_conversations",
    does="Writes what conversations are found by, after a turn in them or a new title.",
    where="ops.care.search:index_conversations",
    longest=timedelta(minutes=5),
    exclusive=False,
    keep=timedelta(days=1),
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
    schedule=Schedule(timedelta(days=1), timedelta(hours=2, minutes=10)),
)
DRILL = Job(
    name="backups.weekly_drill",
    does="Proves the newest backup: restores it into a scratch database and compares every table.",
    where="ops.backup.scheduled:weekly_drill",
    longest=timedelta(hours=1),
    schedule=Schedule(timedelta(days=7), timedelta(days=3, hours=4, minutes=10)),
)
OBSERVE_BACKUPS = Job(
    name="backups.observe",
    does="Reads from the backups' store what there is, for the metrics.",
    where="ops.backup.scheduled:observe",
    longest=timedelta(minutes=2),
    schedule=Schedule(timedelta(minutes=5), timedelta(minutes=2)),
    keep=timedelta(days=7),
)

ARCHIVE = Job(
    name="archive.run",
    does="Moves the messages of conversations that have been idle for ARCHIVE_AFTER_DAYS into bundles.",
    where="ops.archive.run:run_scheduled",
    longest=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=10)),
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
    schedule=Schedule(timedelta(days=1), timedelta(hours=4, minutes=25)),
)

JOBS: tuple[Job, ...] = (
    BEAT_TICK,
    CLOSE_STALE_TURNS,
    PURGE_SESSIONS,
    PURGE_IDEMPOTENCY_KEYS,
    PURGE_TURN_EVENTS,
    PURGE_JOB_RUNS,
    INDEX_CONVERSATIONS,
    SWEEP_SEARCH,
    BACK_UP,
    DRILL,
    OBSERVE_BACKUPS,
    ARCHIVE,
    MEASURE_ARCHIVE,
    VERIFY_ARCHIVE,
)

RECENT_BACKUP = Check(
    id="backup.recent",
    asks="Is there a good backup of less than 26 hours ago?",
    worst=Level.CRITICAL,
    where="ops.checks.backups:recent",
)
BACKUP_DRILL = Check(
    id="backup.drill",
    asks="Did a restore drill of the last eight days prove a backup?",
    worst=Level.CRITICAL,
    where="ops.checks.backups:drilled",
)
INDEX_CHECKS = (
    Check(
        id="indexes.expected",
        asks="Is every index there that Parley's models declare, as they declare it?",
        worst=Level.CRITICAL,
        where="ops.checks.indexes.expected:expected",
    ),
    Check(
        id="indexes.invalid",
        asks="Is there an index that PostgreSQL does not use, because its build or its drop was cut off?",
        worst=Level.CRITICAL,
        where="ops.checks.indexes.validity:invalid",
    ),
    Check(
        id="indexes.unused",
        asks="Is there a large index that no query has used for a long time?",
        worst=Level.WARNING,
        where="ops.checks.indexes.unused:unused",
    ),
    Check(
        id="indexes.duplicate",
        asks="Is there an index that is the same as another one?",
        worst=Level.WARNING,
        where="ops.checks.indexes.overlap:duplicate",
    ),
    Check(
        id="indexes.redundant",
        asks="Is there an index whose columns are the first ones of another?",
        worst=Level.WARNING,
        where="ops.checks.indexes.overlap:redundant",
    ),
    Check(
        id="indexes.foreign_keys",
        asks="Is there a foreign key that no index serves?",
        worst=Level.WARNING,
        where="ops.checks.indexes.foreign_keys:foreign_keys",
    ),
    Check(
        id="indexes.hot_queries",
        asks="Is there a statement that is asked often and reads a large table from end to end?",
        worst=Level.WARNING,
        where="ops.checks.indexes.hot_queries:hot_queries",
    ),
    Check(
        id="indexes.bloat",
        asks="Is there an index that takes twice the room that it needs?",
        worst=Level.WARNING,
        where="ops.checks.indexes.bloat:bloat",
    ),
    Check(
        id="indexes.corruption",
        asks="Is there an index that is damaged?",
        worst=Level.CRITICAL,
        where="ops.checks.indexes.corruption:corruption",
        thorough=True,
    ),
    Check(
        id="tables.statistics",
        asks="Does the planner know what is in the tables?",
        worst=Level.WARNING,
        where="ops.checks.statistics:statistics",
    ),
    Check(
        id="tables.constraints",
        asks="Is there a constraint that was never validated?",
        worst=Level.WARNING,
        where="ops.checks.constraints:unvalidated",
    ),
    Check(
        id="tables.sequences",
        asks="Is there a sequence that runs out of numbers?",
        worst=Level.CRITICAL,
        where="ops.checks.sequences:sequences",
    ),
    Check(
        id="tables.cache",
        asks="Does PostgreSQL find in its memory what it looks for?",
        worst=Level.WARNING,
        where="ops.checks.cache:cache",
    ),
    Check(
        id="tables.wraparound",
        asks="Do transaction numbers run out?",
        worst=Level.CRITICAL,
        where="ops.checks.wraparound:wraparound",
    ),
)

ARCHIVE_BACKLOG = Check(
    id="archive.backlog",
    asks="Is what has been idle for long enough archived in time?",
    worst=Level.CRITICAL,
    where="ops.checks.archive:backlog",
)
ARCHIVE_BUNDLES = Check(
    id="archive.bundles",
    asks="Are the bundles still what was stored, and is every message in exactly one place?",
    worst=Level.CRITICAL,
    where="ops.checks.archive:bundles",
)

CHECKS: tuple[Check, ...] = (
    *INDEX_CHECKS,
    RECENT_BACKUP,
    BACKUP_DRILL,
    ARCHIVE_BACKLOG,
    ARCHIVE_BUNDLES,
)
