"""The job catalogue: every job, declared once.

Beat, worker, command line, admin API and runbooks read it here. A job names its function as text, because the beat
reads the catalogue and must not load the application.
"""

from datetime import timedelta

from ops.catalogue.declarations import Job
from ops.catalogue.schedules import Monthly, Schedule, daily, weekly

BEAT_TICK = Job(
    name="beat.tick",
    description="Proves that beat, broker and worker run jobs, and marks runs as lost whose worker has ended.",
    function="ops.maintenance.beat:tick",
    time_limit=timedelta(seconds=20),
    schedule=Schedule(timedelta(seconds=30)),
    history_ttl=timedelta(days=7),
)
CLOSE_STALE_TURNS = Job(
    name="turns.close_stale",
    description="Marks turns without a heartbeat as interrupted, so that their conversations accept messages again.",
    function="ops.maintenance.jobs:close_stale_turns",
    time_limit=timedelta(seconds=60),
    schedule=Schedule(timedelta(seconds=30), timedelta(seconds=15)),
    history_ttl=timedelta(days=7),
)
PURGE_SESSIONS = Job(
    name="sessions.purge_expired",
    description="Deletes sessions that ended more than SESSIONS_KEEP_DAYS ago.",
    function="ops.maintenance.jobs:purge_ended_sessions",
    time_limit=timedelta(minutes=10),
    schedule=daily(3, 10),
)
PURGE_API_KEYS = Job(
    name="api_keys.purge_ended",
    description="Deletes API keys that ended more than API_KEYS_KEEP_DAYS ago.",
    function="ops.maintenance.jobs:purge_ended_api_keys",
    time_limit=timedelta(minutes=10),
    schedule=daily(3, 20),
)
PURGE_IDEMPOTENCY_KEYS = Job(
    name="idempotency_keys.purge_expired",
    description="Deletes idempotency keys that are more than a day old.",
    function="ops.maintenance.jobs:purge_old_idempotency_keys",
    time_limit=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=20)),
)
PURGE_FILES = Job(
    name="files.purge",
    description="Deletes contents that no file has any more, and objects in the store of files that no content has.",
    function="ops.maintenance.files:purge_files",
    time_limit=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=30)),
)
SYNC_PROVIDER_FILES = Job(
    name="provider_files.sync",
    description="Uploads files of projects that opt in to their provider, and deletes unwanted copies there.",
    function="ops.maintenance.provider_files:sync_provider_files",
    time_limit=timedelta(minutes=10),
    schedule=Schedule(timedelta(minutes=1), timedelta(seconds=50)),
    history_ttl=timedelta(days=1),
)
RECONCILE_PROVIDER_FILES = Job(
    name="provider_files.reconcile",
    description="Compares the copies of files at providers with their rows, and has both repaired.",
    function="ops.maintenance.provider_file_orphans:reconcile_provider_files",
    time_limit=timedelta(hours=1),
    schedule=daily(3, 35),
)
EXTRACT_FILES = Job(
    name="files.extract",
    description="Extracts the texts of uploaded files into passages, one file of each user in turn.",
    function="ops.maintenance.file_texts:extract_texts",
    time_limit=timedelta(minutes=4),
    schedule=Schedule(timedelta(minutes=1), timedelta(seconds=10)),
    history_ttl=timedelta(days=1),
)
PURGE_TURN_EVENTS = Job(
    name="turn_events.purge",
    description="Deletes stream events that are older than TURN_EVENTS_KEEP_HOURS; messages stay.",
    function="ops.maintenance.jobs:purge_old_turn_events",
    time_limit=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=40)),
)
PURGE_TOOL_CALLS = Job(
    name="tool_calls.purge",
    description="Deletes recorded calls of tools that are older than TOOL_CALLS_KEEP_DAYS; messages stay.",
    function="ops.maintenance.jobs:purge_old_tool_calls",
    time_limit=timedelta(minutes=10),
    schedule=daily(3, 50),
)
PURGE_JOB_RUNS = Job(
    name="job_runs.purge",
    description="Deletes job runs that are older than JOB_RUNS_KEEP_DAYS.",
    function="ops.maintenance.jobs:purge_old_job_runs",
    time_limit=timedelta(minutes=10),
    schedule=daily(3, 40),
)
SEAL_AUDIT = Job(
    name="audit.seal",
    description="Seals the audit's events that have ended with a chained keyed hash, so that later changes are found.",
    function="ops.runs.audit_seals:seal_audit",
    time_limit=timedelta(minutes=4),
    schedule=Schedule(timedelta(minutes=5), timedelta(minutes=1)),
    history_ttl=timedelta(days=7),
)
INDEX_CONVERSATIONS = Job(
    name="search.index_conversations",
    description="Updates the search documents of conversations after a turn or a new title.",
    function="ops.maintenance.search:index_conversations",
    time_limit=timedelta(minutes=5),
    exclusive=False,
    history_ttl=timedelta(days=1),
)
MAIL_PASSWORD_RESET = Job(
    name="users.mail_password_reset",
    description="Mails a token that resets the password to the stored address of a user who requested it.",
    function="ops.users.password_resets:mail_token",
    time_limit=timedelta(minutes=2),
    exclusive=False,
    history_ttl=timedelta(days=7),
)
PURGE_PASSWORD_RESETS = Job(
    name="password_resets.purge_expired",
    description="Deletes expired tokens that reset a password.",
    function="ops.maintenance.jobs:purge_expired_password_resets",
    time_limit=timedelta(minutes=10),
    schedule=daily(3, 30),
)
ERASE_REQUESTED = Job(
    name="users.erase_requested",
    description="Erases users who deleted their account and whose erasure was lost or interrupted.",
    function="ops.users.requested_erasures:erase_requested",
    time_limit=timedelta(minutes=30),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=25)),
)
FILL_EMAIL_KEYS = Job(
    name="users.fill_email_keys",
    description="Stores the normal form of email addresses that earlier releases have stored without it.",
    function="ops.users.email_keys:fill_email_keys",
    time_limit=timedelta(minutes=10),
    schedule=daily(3, 50),
)
ERASE_USER = Job(
    name="users.erase",
    description="Erases a user and all their data on request of an admin or the user, and writes the receipt.",
    function="ops.users.erasure:run_erasure_job",
    time_limit=timedelta(minutes=30),
    exclusive=False,
)
SWEEP_SEARCH = Job(
    name="search.sweep",
    description="Updates search documents that are missing or out of date.",
    function="ops.maintenance.search:sweep",
    time_limit=timedelta(minutes=5),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=50)),
)
BACK_UP = Job(
    name="backups.daily",
    description="Creates a backup, verifies it, and removes backups that the retention rules do not keep.",
    function="ops.backup.scheduled:create_and_prune",
    time_limit=timedelta(hours=1),
    schedule=daily(2, 10),
)
DRILL = Job(
    name="backups.weekly_drill",
    description="Restores the newest backup into a scratch database and compares every table.",
    function="ops.backup.scheduled:drill_or_fail",
    time_limit=timedelta(hours=1),
    schedule=weekly(6, 4, 10),
)
MEASURE_BACKUPS = Job(
    name="backups.measure",
    description="Measures the backups in the store for the metrics.",
    function="ops.backup.scheduled:measure_backups",
    time_limit=timedelta(minutes=2),
    schedule=Schedule(timedelta(minutes=5), timedelta(minutes=2)),
    history_ttl=timedelta(days=7),
)
VERIFY_BACKUPS = Job(
    name="backups.verify",
    description="Compares backups with their manifests on an operator's request; restores nothing.",
    function="ops.backup.scheduled:verify_or_fail",
    time_limit=timedelta(hours=1),
    deliveries=1,
)
PRUNE_BACKUPS = Job(
    name="backups.prune",
    description="Removes backups that BACKUP_KEEP_DAILY, _WEEKLY and _MONTHLY do not keep, on an operator's request.",
    function="ops.backup.prune:prune",
    time_limit=timedelta(hours=1),
)

ARCHIVE = Job(
    name="archive.run",
    description="Moves the messages of conversations that have been idle for ARCHIVE_AFTER_DAYS into bundles.",
    function="ops.archive.run:run_scheduled",
    time_limit=timedelta(minutes=10),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=10)),
)
UNDO_ARCHIVE = Job(
    name="archive.undo",
    description="Undoes one run of the archival on an operator's request.",
    function="ops.archive.restore:run_undo_job",
    time_limit=timedelta(minutes=30),
)
RESTORE_USER = Job(
    name="archive.restore_user",
    description="Restores all bundled conversations of a user on an operator's request.",
    function="ops.archive.restore:run_user_restore_job",
    time_limit=timedelta(minutes=30),
    exclusive=False,
)
MEASURE_ARCHIVE = Job(
    name="archive.measure",
    description="Measures the archival backlog and its age for metrics and alerts.",
    function="ops.archive.backlog_metrics:measure_backlog",
    time_limit=timedelta(minutes=5),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=5)),
    history_ttl=timedelta(days=7),
)
VERIFY_ARCHIVE = Job(
    name="archive.verify",
    description="Verifies that bundles are intact, for metrics and alerts.",
    function="ops.archive.verify:run_daily_verification",
    time_limit=timedelta(minutes=10),
    schedule=daily(4, 25),
)
RECOUNT_STORED_BYTES = Job(
    name="storage.recount",
    description="Recounts the bytes that users store, and reports and corrects what is counted wrong.",
    function="ops.maintenance.jobs:recount_stored_bytes",
    time_limit=timedelta(hours=1),
    schedule=weekly(5, 4, 50),
)
RECORD_STATS = Job(
    name="stats.record",
    description="Records table sizes and statement statistics for later comparison.",
    function="ops.stats.record:record",
    time_limit=timedelta(minutes=2),
    schedule=Schedule(timedelta(hours=1), timedelta(minutes=5)),
)
MEASURE_DATABASE = Job(
    name="stats.measure",
    description="Reads the statistics of the database and the free disk space for the metrics.",
    function="ops.stats.measure:measure",
    time_limit=timedelta(seconds=50),
    schedule=Schedule(timedelta(minutes=1), timedelta(seconds=20)),
    history_ttl=timedelta(days=1),
)
REFRESH_MCP_TOOLS = Job(
    name="mcp.refresh_tools",
    description="Requests the lists of tools of MCP servers whose time to live has passed.",
    function="ops.mcp.check:refresh_tools",
    time_limit=timedelta(seconds=90),
    schedule=Schedule(timedelta(minutes=1), timedelta(seconds=40)),
    history_ttl=timedelta(days=1),
)
RUN_DOCTOR = Job(
    name="doctor.run",
    description="Runs the doctor's checks and records the results for metrics and alerts.",
    function="ops.doctor.scheduled:run_scheduled",
    time_limit=timedelta(minutes=5),
    schedule=Schedule(timedelta(minutes=10), timedelta(minutes=3)),
    history_ttl=timedelta(days=7),
)
RUN_DOCTOR_THOROUGH = Job(
    name="doctor.run_thorough",
    description="Runs the doctor's thorough checks, which read a lot, such as every page of every index.",
    function="ops.doctor.scheduled:run_scheduled_thorough",
    time_limit=timedelta(hours=1),
    schedule=daily(4, 40),
)
PLAN_INDEXES = Job(
    name="indexes.plan",
    description="Plans index repairs for an operator to review; changes nothing.",
    function="ops.indexes.plan_jobs:plan",
    time_limit=timedelta(minutes=10),
    schedule=weekly(0, 5, 15),
)
APPLY_INDEX_PLAN = Job(
    name="indexes.apply",
    description="Applies an index plan that an operator has reviewed.",
    function="ops.indexes.plan_jobs:apply_planned",
    time_limit=timedelta(hours=1),
    deliveries=1,
)
DAILY_ROUTINE = Job(
    name="routines.daily",
    description="Reports query performance, errors and the last backup.",
    function="ops.routines.run:daily",
    time_limit=timedelta(minutes=10),
    schedule=daily(5, 30),
)
WEEKLY_ROUTINE = Job(
    name="routines.weekly",
    description="Reports slow queries, table growth, index usage and the last restore drill.",
    function="ops.routines.run:weekly",
    time_limit=timedelta(minutes=10),
    schedule=weekly(0, 5, 40),
)
MONTHLY_ROUTINE = Job(
    name="routines.monthly",
    description="Reports the archival, possible index improvements and the documents.",
    function="ops.routines.run:monthly",
    time_limit=timedelta(minutes=20),
    schedule=Monthly(1, timedelta(hours=5, minutes=50)),
)

# Collected, so that a job declared above cannot be left out. The order is that of the declarations.
JOBS = tuple(value for value in tuple(globals().values()) if isinstance(value, Job))
