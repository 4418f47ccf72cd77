"""The catalogue: every job and every check, once. Beat, worker, command line, admin API, runbooks and documentation
take them from here; each names the function that does it, and the thresholds of a check stand beside that.
"""

from datetime import timedelta

from ops.declarations import Check, Duty, Job, Monthly, Part, Schedule, daily, weekly
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

# In the order in which they are asked: what others depend on comes first.
CHECKS: tuple[Check, ...] = (
    Check("connection.reachable", "Does the database answer?", Level.CRITICAL, "ops.checks.connection:reachable"),
    Check("connection.version", "Is PostgreSQL new enough?", Level.CRITICAL, "ops.checks.connection:version"),
    Check("connection.writable", "Can the database be written to?", Level.CRITICAL, "ops.checks.connection:writable"),
    Check("connection.latency", "Is the way to the database short?", Level.CRITICAL, "ops.checks.connection:latency"),
    Check(
        "connection.clock",
        "Do this host and the database agree on the time?",
        Level.CRITICAL,
        "ops.checks.connection:clock",
    ),
    Check(
        "connection.encryption",
        "Is the way to the database encrypted where others could listen?",
        Level.CRITICAL,
        "ops.checks.encryption:encryption",
    ),
    Check(
        "connection.same_database",
        "Do both URLs lead to the same database?",
        Level.CRITICAL,
        "ops.checks.pooler:same_database",
    ),
    Check(
        "connection.pooler",
        "Do locks hold, or does a pooler stand in their way?",
        Level.CRITICAL,
        "ops.checks.pooler:pooler",
    ),
    Check(
        "connection.timeouts",
        "Do connections have the timeouts of the settings?",
        Level.WARNING,
        "ops.checks.pooler:timeouts",
    ),
    Check(
        "connection.privileges",
        "May Parley's account do what it must?",
        Level.CRITICAL,
        "ops.checks.privileges:privileges",
    ),
    Check(
        "migrations.current",
        "Is the database at the revision of this code?",
        Level.CRITICAL,
        "ops.checks.migrations:current",
    ),
    Check("migrations.next", "What would the next upgrade lock?", Level.CRITICAL, "ops.checks.migrations:next_upgrade"),
    Check(
        "migrations.drift", "Are the tables as the models describe them?", Level.CRITICAL, "ops.checks.migrations:drift"
    ),
    Check(
        "pool.bounds",
        "Does the server allow the connections that the settings allow?",
        Level.WARNING,
        "ops.checks.pool:bounds",
    ),
    Check("pool.in_use", "Are there connections left?", Level.CRITICAL, "ops.checks.pool:in_use"),
    Check("transactions.blocked", "Does anybody wait for a lock?", Level.CRITICAL, "ops.checks.transactions:blocked"),
    Check("transactions.long", "Is a transaction open for too long?", Level.CRITICAL, "ops.checks.transactions:long"),
    Check("transactions.idle", "Has somebody left a transaction open?", Level.CRITICAL, "ops.checks.transactions:idle"),
    Check(
        "replication.prepared",
        "Is a prepared transaction forgotten?",
        Level.CRITICAL,
        "ops.checks.replication:prepared",
    ),
    Check(
        "replication.slots",
        "Is anything kept for a replica that does not come?",
        Level.CRITICAL,
        "ops.checks.replication:slots",
    ),
    Check("storage.disk", "Is there room on the disks?", Level.CRITICAL, "ops.checks.storage:disk"),
    Check(
        "storage.durable",
        "Does what was committed outlast a crash of the server?",
        Level.CRITICAL,
        "ops.checks.durability:durable",
    ),
    Check("storage.growth", "Will there be room next month?", Level.CRITICAL, "ops.checks.storage:grows"),
    Check(
        "statements.slow", "Does any statement of ours take long?", Level.CRITICAL, "ops.checks.statements:slow_ones"
    ),
    Check(
        "indexes.expected",
        "Is every index there that Parley's models declare, as they declare it?",
        Level.CRITICAL,
        "ops.checks.indexes.expected:expected",
    ),
    Check(
        "indexes.invalid",
        "Is there an index that PostgreSQL does not use, because its build or its drop was cut off?",
        Level.CRITICAL,
        "ops.checks.indexes.validity:invalid",
    ),
    Check(
        "indexes.unused",
        "Is there a large index that no query has used for a long time?",
        Level.WARNING,
        "ops.checks.indexes.unused:unused",
    ),
    Check(
        "indexes.duplicate",
        "Is there an index that is the same as another one?",
        Level.WARNING,
        "ops.checks.indexes.overlap:duplicate",
    ),
    Check(
        "indexes.redundant",
        "Is there an index whose columns are the first ones of another?",
        Level.WARNING,
        "ops.checks.indexes.overlap:redundant",
    ),
    Check(
        "indexes.foreign_keys",
        "Is there a foreign key that no index serves?",
        Level.WARNING,
        "ops.checks.indexes.foreign_keys:foreign_keys",
    ),
    Check(
        "indexes.hot_queries",
        "Is there a statement that is asked often and reads a large table from end to end?",
        Level.WARNING,
        "ops.checks.indexes.hot_queries:hot_queries",
    ),
    Check(
        "indexes.bloat",
        "Is there an index that takes twice the room that it needs?",
        Level.WARNING,
        "ops.checks.indexes.bloat:bloat",
    ),
    Check(
        "indexes.corruption",
        "Is there an index that is damaged?",
        Level.CRITICAL,
        "ops.checks.indexes.corruption:corruption",
        thorough=True,
    ),
    Check(
        "indexes.collations",
        "Is there an index that was ordered by another version of the collation library?",
        Level.CRITICAL,
        "ops.checks.indexes.collations:collations",
    ),
    Check(
        "tables.statistics",
        "Does the planner know what is in the tables?",
        Level.WARNING,
        "ops.checks.statistics:statistics",
    ),
    Check("tables.vacuum", "Are dead rows cleaned up?", Level.WARNING, "ops.checks.vacuum:vacuum"),
    Check(
        "tables.constraints",
        "Is every rule there, kept, and true of all rows?",
        Level.CRITICAL,
        "ops.checks.constraints:unvalidated",
    ),
    Check(
        "tables.sequences",
        "Is there a sequence that runs out of numbers?",
        Level.CRITICAL,
        "ops.checks.sequences:sequences",
    ),
    Check(
        "tables.cache", "Does PostgreSQL find in its memory what it looks for?", Level.WARNING, "ops.checks.cache:cache"
    ),
    Check("tables.wraparound", "Do transaction numbers run out?", Level.CRITICAL, "ops.checks.wraparound:wraparound"),
    Check("beat.alive", "Do beat, broker and a worker work together?", Level.CRITICAL, "ops.checks.jobs:beat"),
    Check("jobs.failed", "Did the last run of each job succeed?", Level.CRITICAL, "ops.checks.jobs:failed"),
    Check("jobs.overdue", "Has every job run when it should have?", Level.CRITICAL, "ops.checks.jobs:overdue"),
    Check("queue.broker", "Does the broker answer?", Level.CRITICAL, "ops.checks.jobs:broker"),
    Check("queue.waiting", "Do the workers keep up?", Level.CRITICAL, "ops.checks.jobs:waiting"),
    Check(
        "provider.reachable",
        "Is the AI provider there, and does it take the key?",
        Level.CRITICAL,
        "ops.checks.provider:reachable",
    ),
    Check(
        "settings.contradictions", "Do the settings go together?", Level.CRITICAL, "ops.checks.settings:contradictions"
    ),
    Check("settings.secrets", "Are the secrets secret?", Level.CRITICAL, "ops.checks.secrets:secrets"),
    Check(
        "backup.recent",
        "Is there a good backup of less than 26 hours ago?",
        Level.CRITICAL,
        "ops.checks.backups:recent",
    ),
    Check(
        "backup.drill",
        "Did a restore drill of the last eight days prove a backup?",
        Level.CRITICAL,
        "ops.checks.backups:drilled",
    ),
    Check(
        "archive.backlog",
        "Is what has been idle for long enough archived in time?",
        Level.CRITICAL,
        "ops.checks.archive:backlog",
    ),
    Check(
        "archive.bundles",
        "Are the bundles still what was stored, and is every message in exactly one place?",
        Level.CRITICAL,
        "ops.checks.archive:bundles",
    ),
    Check(
        "erasures.nobody_came_back",
        "Are those who were erased still gone?",
        Level.CRITICAL,
        "ops.checks.erasures:nobody_came_back",
    ),
    Check(
        "erasures.unfinished",
        "Did every erasure that began come to its end?",
        Level.WARNING,
        "ops.checks.erasures:unfinished",
    ),
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
