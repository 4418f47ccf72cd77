"""Every setting and its default: typed, grouped, read once from the environment and `.env`.

The environment wins over `.env`; an empty value counts as unset. `load_settings` raises `SettingsError` with one line
per wrong setting. Secrets are `SecretStr`, so that no repr, log line or traceback shows them.
"""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError

from app.config_file import complaints as file_complaints
from app.config_keeping import Archive, Backups, check_backups
from app.config_values import (
    BrokerUrl,
    Fallback,
    Group,
    Hours,
    Origins,
    PostgresUrl,
    PreviousKeys,
    ProviderName,
    RedisUrl,
)
from app.errors import SettingsError


class Server(Group):
    host: str = Field("127.0.0.1", validation_alias="HOST", description="Address the web server listens on.")
    port: int = Field(8000, ge=1, le=65535, validation_alias="PORT", description="Port the web server listens on.")
    workers: int = Field(2, ge=1, le=64, validation_alias="WEB_WORKERS", description="Web worker processes.")
    grace_seconds: int = Field(
        25,
        ge=6,
        le=3600,
        validation_alias="WEB_GRACE_SECONDS",
        description="Seconds for turns under way when the server stops; what is left is closed as interrupted.",
    )
    max_requests: int = Field(
        0,
        ge=0,
        validation_alias="WEB_MAX_REQUESTS",
        description="Requests after which a web worker is replaced, once its turns have ended; 0 is never.",
    )
    home: Path = Field(
        Path(".parley"), validation_alias="PARLEY_HOME", description="Folder of the embedded servers' data and keys."
    )
    body_seconds: float = Field(
        30,
        gt=0,
        validation_alias="BODY_TIMEOUT",
        description="Seconds for a request's body to arrive; beyond that, 408.",
    )
    send_seconds: float = Field(
        60,
        ge=0.1,
        le=3600,
        validation_alias="SEND_TIMEOUT",
        description="Seconds for which a client may take nothing of its answer; beyond that, it is cut off (Linux).",
    )
    max_body_bytes: int = Field(
        1_048_576, ge=65_536, validation_alias="MAX_BODY_BYTES", description="Largest request body, in bytes."
    )
    cors_origins: Origins = Field(
        (),
        validation_alias="CORS_ORIGINS",
        description="Origins whose pages may call from a browser, with commas between; * is every one, unset none.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        validation_alias="TRUSTED_PROXIES",
        description="Proxies in front of the server whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    ops_token: SecretStr | None = Field(
        None,
        min_length=16,
        validation_alias="OPS_TOKEN",
        description="Bearer token that opens /metrics and the details of /health/ready; unset, both are open while HOST"
        " is a loopback address and closed otherwise.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL", description="Least severe log line that is written."
    )


class Database(Group):
    url: PostgresUrl | None = Field(
        None, validation_alias="DATABASE_URL", description="PostgreSQL 15 or newer; unset starts the embedded one."
    )
    direct_url: PostgresUrl | None = Field(
        None,
        validation_alias="DATABASE_DIRECT_URL",
        description="The same database past a pooler such as PgBouncer, for locks; unset: DATABASE_URL.",
    )
    replica_url: PostgresUrl | None = Field(
        None,
        validation_alias="DATABASE_REPLICA_URL",
        description="Its read replica, if it has one, which is asked as well whether an index is unused.",
    )
    pool_size: int = Field(10, ge=1, validation_alias="DB_POOL_SIZE", description="Connections kept per process.")
    max_overflow: int = Field(
        20, ge=0, validation_alias="DB_MAX_OVERFLOW", description="Connections beyond the pool, closed after use."
    )
    pool_timeout: float = Field(
        5, gt=0, validation_alias="DB_POOL_TIMEOUT", description="Seconds to wait for a connection, then 503."
    )
    pool_recycle: int = Field(
        3600, ge=1, validation_alias="DB_POOL_RECYCLE", description="Seconds after which a connection is replaced."
    )
    connect_timeout: int = Field(
        5, ge=1, validation_alias="DB_CONNECT_TIMEOUT", description="Seconds to wait for a new connection."
    )
    statement_timeout_ms: int = Field(
        15_000, ge=100, validation_alias="DB_STATEMENT_TIMEOUT_MS", description="Longest statement, in milliseconds."
    )
    lock_timeout_ms: int = Field(
        5_000, ge=100, validation_alias="DB_LOCK_TIMEOUT_MS", description="Longest wait for a lock, in milliseconds."
    )
    idle_in_transaction_timeout_ms: int = Field(
        15_000,
        ge=100,
        validation_alias="DB_IDLE_IN_TRANSACTION_TIMEOUT_MS",
        description="Longest pause inside a transaction, in milliseconds.",
    )
    prepare: bool | None = Field(
        None,
        validation_alias="DB_PREPARE",
        description="Plan a turn's SQL once a connection; unset: unless DATABASE_DIRECT_URL tells of a pooler.",
    )
    index_hours: Hours = Field(
        "01-05",
        validation_alias="INDEX_APPLY_HOURS",
        description="Hours, UTC, in which index plans are applied without --now: 22-04 over midnight, 00-24 always.",
    )

    @property
    def prepares(self) -> bool:
        """Whether a turn's statements are planned once a connection."""
        return self.direct_url is None if self.prepare is None else self.prepare


class Jobs(Group):
    broker_url: BrokerUrl | None = Field(
        None,
        validation_alias="CELERY_BROKER_URL",
        description="Redis or RabbitMQ for Celery; unset starts the embedded Redis.",
    )
    worker_concurrency: int = Field(
        2, ge=1, le=64, validation_alias="WORKER_CONCURRENCY", description="Jobs that a worker runs at the same time."
    )
    runs_keep_days: int = Field(
        90, ge=1, validation_alias="JOB_RUNS_KEEP_DAYS", description="Days for which the history of jobs is kept."
    )
    sessions_keep_days: int = Field(
        30, ge=0, validation_alias="SESSIONS_KEEP_DAYS", description="Days for which an ended session is kept."
    )
    api_keys_keep_days: int = Field(
        90, ge=0, validation_alias="API_KEYS_KEEP_DAYS", description="Days for which an ended API key is kept."
    )
    events_keep_hours: int = Field(
        6,
        ge=1,
        validation_alias="TURN_EVENTS_KEEP_HOURS",
        description="Hours for which a stream can be gone on with piece by piece; later its answer comes whole.",
    )


class Auth(Group):
    jwt_secret_key: SecretStr | None = Field(
        None,
        min_length=32,
        validation_alias="JWT_SECRET_KEY",
        description="Signs tokens; at least 32 characters. Made and kept in PARLEY_HOME when the database is embedded.",
    )
    jwt_previous_keys: PreviousKeys = Field(
        (),
        validation_alias="JWT_PREVIOUS_KEYS",
        description="Keys that signed before JWT_SECRET_KEY and still verify, with commas between.",
    )
    access_token_minutes: int = Field(
        15, ge=1, le=1440, validation_alias="ACCESS_TOKEN_MINUTES", description="Life of an access token, in minutes."
    )
    refresh_token_days: int = Field(
        7, ge=1, le=365, validation_alias="REFRESH_TOKEN_DAYS", description="Life of a session, in days."
    )
    password_queue: int = Field(
        16, ge=1, validation_alias="PASSWORD_QUEUE", description="Passwords waiting to be hashed per worker, then 503."
    )


class Limits(Group):
    url: RedisUrl | None = Field(
        None,
        validation_alias="RATE_LIMIT_URL",
        description="Redis in which all processes count requests and wrong passwords together; unset: the one to which"
        " jobs are sent, embedded or not. Without one, and while it is away, each process counts for itself.",
    )
    user_per_minute: int = Field(
        1200,
        ge=0,
        validation_alias="RATE_LIMIT_USER",
        description="Requests a minute of one user, by tokens and API keys together; beyond that, 429. 0 is no limit,"
        " here and below.",
    )
    key_per_minute: int = Field(
        1200, ge=0, validation_alias="RATE_LIMIT_KEY", description="Requests a minute with one API key."
    )
    address_per_minute: int = Field(
        600,
        ge=0,
        validation_alias="RATE_LIMIT_ADDRESS",
        description="Requests a minute from one address without a valid token or key: logins, refreshes, wrong tokens.",
    )
    register_per_hour: int = Field(
        60,
        ge=0,
        validation_alias="RATE_LIMIT_REGISTER",
        description="Tries an hour to open an account from one address.",
    )
    exports_per_hour: int = Field(
        10,
        ge=0,
        validation_alias="RATE_LIMIT_EXPORT",
        description="Times an hour that one user may export everything they have.",
    )
    login_failures: int = Field(
        10,
        ge=0,
        validation_alias="LOGIN_FAILURES",
        description="Wrong passwords for one account from one address in 15 minutes.",
    )
    login_failures_account: int = Field(
        100,
        ge=0,
        validation_alias="LOGIN_FAILURES_ACCOUNT",
        description="Wrong passwords for one account in an hour, from everywhere; beyond that it is closed only to"
        " addresses from which its owner has not logged in before.",
    )
    login_failures_address: int = Field(
        100,
        ge=0,
        validation_alias="LOGIN_FAILURES_ADDRESS",
        description="Wrong passwords from one address in 15 minutes, for all accounts.",
    )


class Chat(Group):
    history_messages: int = Field(
        20, ge=0, le=500, validation_alias="CHAT_HISTORY_MESSAGES", description="Earlier messages sent to the provider."
    )
    history_chars: int = Field(
        100_000,
        ge=0,
        validation_alias="CHAT_HISTORY_CHARS",
        description="Characters of earlier messages sent to the provider.",
    )
    max_user_chars: int = Field(
        10_000, ge=1, le=10_000, validation_alias="CHAT_MAX_USER_CHARS", description="Longest message from a person."
    )
    max_running: int = Field(
        1000,
        ge=1,
        validation_alias="CHAT_MAX_RUNNING",
        description="Turns that one web worker answers at a time; beyond that, 503 with Retry-After.",
    )
    max_running_per_user: int = Field(
        20,
        ge=0,
        le=1000,
        validation_alias="CHAT_MAX_RUNNING_PER_USER",
        description="Turns that one person may have running at a time, on all servers together; beyond that, 429 with"
        " Retry-After. 0 is no limit.",
    )
    quota_output_tokens: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        validation_alias="QUOTA_OUTPUT_TOKENS",
        description="Tokens set aside for the answer of a turn whose user has a daily quota, until the turn has ended.",
    )
    stale_seconds: int = Field(
        15,
        ge=3,
        validation_alias="CHAT_STALE_SECONDS",
        description="Seconds without a heartbeat after which a running turn counts as interrupted.",
    )


class Provider(Group):
    name: ProviderName | None = Field(
        None,
        validation_alias="AI_PROVIDER",
        description="demo, openai, openrouter or compatible; unset: the one a key is set for, else demo.",
    )
    model: str | None = Field(None, validation_alias="AI_MODEL", description="Model to ask; unset: the provider's own.")
    openai_api_key: SecretStr | None = Field(
        None, validation_alias="OPENAI_API_KEY", description="Key for openai, and for compatible if it wants one."
    )
    openai_base_url: str | None = Field(
        None,
        validation_alias="OPENAI_BASE_URL",
        pattern=r"^https?://",
        description="Base URL of the API, such as http://localhost:11434/v1; required for compatible.",
    )
    openrouter_api_key: SecretStr | None = Field(
        None, validation_alias="OPENROUTER_API_KEY", description="Key for openrouter."
    )
    openrouter_base_url: str = Field(
        "https://openrouter.ai/api/v1",
        validation_alias="OPENROUTER_BASE_URL",
        pattern=r"^https?://",
        description="Base URL of OpenRouter.",
    )
    connect_timeout: float = Field(
        5, gt=0, validation_alias="AI_CONNECT_TIMEOUT", description="Seconds to connect to the provider."
    )
    first_token_timeout: float = Field(
        60, gt=0, validation_alias="AI_FIRST_TOKEN_TIMEOUT", description="Seconds until the first piece of an answer."
    )
    idle_timeout: float = Field(
        30, gt=0, validation_alias="AI_IDLE_TIMEOUT", description="Seconds between two pieces of an answer."
    )
    total_timeout: float = Field(
        300,
        gt=0,
        validation_alias="AI_TOTAL_TIMEOUT",
        description="Seconds for a whole answer, all tries and waits included.",
    )
    retries: int = Field(
        2,
        ge=0,
        le=10,
        validation_alias="AI_RETRIES",
        description="Times that a provider is asked again after a passing failure; never once its answer has begun.",
    )
    breaker_failures: int = Field(
        5,
        ge=1,
        validation_alias="AI_BREAKER_FAILURES",
        description="Failures in a row after which a web worker leaves a provider alone.",
    )
    breaker_seconds: float = Field(
        30,
        gt=0,
        validation_alias="AI_BREAKER_SECONDS",
        description="Seconds for which it is left alone; then one request finds out for all.",
    )
    fallback: Fallback = Field(
        (),
        validation_alias="AI_FALLBACK",
        description="Providers to ask, in this order and with their own models, when the chosen one gives no answer;"
        " commas between. A provider or model that a request itself names is never replaced; a project's choice is.",
    )


@dataclass(frozen=True)
class Settings:
    """All groups. Immutable."""

    server: Server
    database: Database
    jobs: Jobs
    archive: Archive
    auth: Auth
    limits: Limits
    chat: Chat
    provider: Provider
    backups: Backups


GROUPS: types.MappingProxyType[str, type[Group]] = types.MappingProxyType(
    {
        "server": Server,
        "database": Database,
        "jobs": Jobs,
        "archive": Archive,
        "auth": Auth,
        "limits": Limits,
        "chat": Chat,
        "provider": Provider,
        "backups": Backups,
    }
)

NAMES = tuple(str(field.validation_alias) for group in GROUPS.values() for field in group.model_fields.values())


def load_settings(env_file: Path | None = Path(".env")) -> Settings:
    """Read every group from the environment and `env_file`.

    Raises `SettingsError` whose detail has one line per wrong setting, naming the variable and never its value.
    """
    groups: dict[str, Group] = {}
    complaints = list(file_complaints(env_file, NAMES)) if env_file else []
    if complaints:
        raise SettingsError("\n".join(complaints))
    for name, group in GROUPS.items():
        try:
            groups[name] = group(_env_file=env_file)  # type: ignore[call-arg]  # a pydantic-settings init argument
        except ValidationError as error:
            complaints += [f"{'.'.join(map(str, item['loc']))}: {_complaint(item)}" for item in error.errors()]
    if complaints:
        raise SettingsError("\n".join(complaints))
    settings = Settings(**groups)  # type: ignore[arg-type]  # each name is paired with its own class in GROUPS
    _check_provider(settings.provider)
    check_backups(settings.backups)
    return settings


def _complaint(item: Mapping[str, Any]) -> str:
    """pydantic's message in plain words."""
    if item["type"] == "too_short":  # of a secret, whose characters it calls items
        return f"must have at least {item['ctx']['min_length']} characters"
    return str(item["msg"]).removeprefix("Value error, ")


def _check_provider(provider: Provider) -> None:
    """A named provider must have what it needs; saying so at start beats saying so at the first chat."""
    needs: dict[ProviderName, tuple[str, object]] = {
        "openai": ("OPENAI_API_KEY", provider.openai_api_key),
        "openrouter": ("OPENROUTER_API_KEY", provider.openrouter_api_key),
        "compatible": ("OPENAI_BASE_URL", provider.openai_base_url),
    }
    named = [("AI_PROVIDER", provider.name or "demo"), *(("AI_FALLBACK", name) for name in provider.fallback)]
    for setting, name in named:
        variable, value = needs.get(name, ("", True))
        if not value:
            raise SettingsError(f"{variable}: {setting} names {name}, which needs it; set it or change {setting}")
