"""The catalogue's checks. Whoever needs them takes them from `ops/catalogue.py`, where everything is found."""

from ops.declarations import Check
from ops.levels import Level

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
