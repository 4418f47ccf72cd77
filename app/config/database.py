"""Settings of the database."""

from pathlib import Path

from pydantic import Field

from app.bounds import INTEGER_MAX, MAX_BYTES, MAX_MILLISECONDS, MAX_SECONDS
from app.config.values import Group, Hours, PostgresUrl, SearchPath


class Database(Group):
    url: PostgresUrl | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="URL of PostgreSQL 15 or newer; unset starts the embedded server.",
    )
    direct_url: PostgresUrl | None = Field(
        None,
        validation_alias="DATABASE_DIRECT_URL",
        description="URL of the same database without a pooler such as PgBouncer, for backups, index repairs and"
        " migrations; unset uses"
        " DATABASE_URL.",
    )
    replica_url: PostgresUrl | None = Field(
        None,
        validation_alias="DATABASE_REPLICA_URL",
        description="URL of a read replica, whose index usage counts when unused indexes are reported.",
    )
    folder: Path | None = Field(
        None,
        validation_alias="DATABASE_FOLDER",
        description="A folder on the disk of a database on this host, whose free space is watched; unset means"
        " PARLEY_HOME for the embedded server, and no watch for others.",
    )
    min_free_bytes: int = Field(
        256 * 1024 * 1024,
        ge=0,
        le=MAX_BYTES,
        validation_alias="DATABASE_MIN_FREE_BYTES",
        description="Free bytes on that disk, below which new turns and imports are answered with 507.",
    )
    max_bytes: int = Field(
        0,
        ge=0,
        le=MAX_BYTES,
        validation_alias="DATABASE_MAX_BYTES",
        description="Size of the database, measured every minute, from which on new turns and imports are answered with"
        " 507; 0 means no limit. For a database on another host, whose disk cannot be watched.",
    )
    pool_size: int = Field(
        10, ge=1, le=10_000, validation_alias="DB_POOL_SIZE", description="Connections kept open per process."
    )
    max_overflow: int = Field(
        20,
        ge=0,
        le=10_000,
        validation_alias="DB_MAX_OVERFLOW",
        description="Connections per process above DB_POOL_SIZE; each is closed after use.",
    )
    pool_timeout: float = Field(
        5,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="DB_POOL_TIMEOUT",
        description="Seconds to wait for a free connection; the request is then answered with 503.",
    )
    pool_recycle: int = Field(
        3600,
        ge=1,
        le=INTEGER_MAX,
        validation_alias="DB_POOL_RECYCLE",
        description="Seconds after which a connection is replaced.",
    )
    connect_timeout: int = Field(
        5,
        ge=1,
        le=MAX_SECONDS,
        validation_alias="DB_CONNECT_TIMEOUT",
        description="Seconds to wait for a new connection.",
    )
    statement_timeout_ms: int = Field(
        15_000,
        ge=100,
        le=MAX_MILLISECONDS,
        validation_alias="DB_STATEMENT_TIMEOUT_MS",
        description="Milliseconds after which PostgreSQL cancels a statement.",
    )
    lock_timeout_ms: int = Field(
        5_000,
        ge=100,
        le=MAX_MILLISECONDS,
        validation_alias="DB_LOCK_TIMEOUT_MS",
        description="Milliseconds that a statement waits for a lock.",
    )
    idle_in_transaction_timeout_ms: int = Field(
        15_000,
        ge=100,
        le=MAX_MILLISECONDS,
        validation_alias="DB_IDLE_IN_TRANSACTION_TIMEOUT_MS",
        description="Milliseconds that a transaction may be idle before PostgreSQL ends its connection.",
    )
    search_path: SearchPath = Field(
        '"$user", public',
        validation_alias="DB_SEARCH_PATH",
        description="Schemas in which Parley's tables are looked up, separated by commas; new tables are created in the"
        " first one that exists.",
    )
    prepare: bool = Field(
        True,
        validation_alias="DB_PREPARE",
        description="Prepare the SQL of turns once per connection; it never is on a connection through a pooler, which"
        " would lose it.",
    )
    index_hours: Hours = Field(
        "01-05",
        validation_alias="INDEX_APPLY_HOURS",
        description="Hours of the day, in UTC, in which index plans are applied without --now: 22-04 spans midnight,"
        " 00-24 is always.",
    )
