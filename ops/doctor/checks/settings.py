"""Settings that are valid alone and contradict each other, one rule for each contradiction."""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.config import Settings
from app.providers.configured import default_name
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.checks.encryption import is_public
from ops.embedded import URL_WHEN_STARTED
from ops.levels import Level

MAX_WINDOW_DAYS = 35  # of reports that compare: `flask ops growth --weeks 4` and the monthly routine
HEARTBEAT_SECONDS = 1  # between two heartbeats of a turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """A contradiction between settings, and its remedy."""

    message: str
    settings: tuple[str, ...]
    remedy: str
    level: Level = Level.WARNING


Rule = Callable[[Settings], Contradiction | None]


@check("settings.contradictions", "Are the settings free of contradictions?", severity=Level.CRITICAL)
def contradictions(context: CheckContext) -> Iterator[Finding]:
    """Apply each rule to the settings."""
    for rule in RULES:
        if (contradiction := rule(context.settings)) is not None:
            yield Finding(
                level=contradiction.level,
                message=contradiction.message,
                object=" ".join(contradiction.settings),
                evidence={"settings": contradiction.settings},
                remedy=contradiction.remedy,
            )


def _metrics_refused(settings: Settings) -> Contradiction | None:
    if settings.server.ops_token is not None or is_loopback(settings.server.host):
        return None
    return Contradiction(
        message="HOST is not a loopback address and OPS_TOKEN is unset: /metrics and health details are refused.",
        settings=("HOST", "OPS_TOKEN"),
        remedy="Set OPS_TOKEN to the output of `openssl rand -hex 32`, and configure Prometheus with it",
    )


def _metrics_open_to_browsers(settings: Settings) -> Contradiction | None:
    server = settings.server
    if "*" not in server.cors_origins or server.ops_token is not None or not is_loopback(server.host):
        return None
    return Contradiction(
        message="CORS_ORIGINS is * and OPS_TOKEN is unset: any web page in a browser on this host can read /metrics.",
        settings=("CORS_ORIGINS", "OPS_TOKEN", "HOST"),
        remedy="Name the origins in CORS_ORIGINS, or set OPS_TOKEN",
    )


def _running_turns_become_stale(settings: Settings) -> Contradiction | None:
    max_pause = settings.database.pool_timeout + HEARTBEAT_SECONDS
    if settings.chat.stale_seconds > max_pause:
        return None
    return Contradiction(
        message=f"CHAT_STALE_SECONDS is {settings.chat.stale_seconds}, and DB_POOL_TIMEOUT "
        f"{settings.database.pool_timeout:g}: a turn whose heartbeat waits for a connection is considered stale.",
        settings=("CHAT_STALE_SECONDS", "DB_POOL_TIMEOUT"),
        remedy=f"Set CHAT_STALE_SECONDS to {int(max_pause) + 5} or more",
    )


def _locks_never_time_out(settings: Settings) -> Contradiction | None:
    database = settings.database
    if database.lock_timeout_ms < database.statement_timeout_ms:
        return None
    return Contradiction(
        message="DB_LOCK_TIMEOUT_MS is not below DB_STATEMENT_TIMEOUT_MS: it has no effect.",
        settings=("DB_LOCK_TIMEOUT_MS", "DB_STATEMENT_TIMEOUT_MS"),
        remedy="Set DB_LOCK_TIMEOUT_MS to a third of DB_STATEMENT_TIMEOUT_MS",
    )


def _deadlines_out_of_order(settings: Settings) -> Contradiction | None:
    provider = settings.provider
    timeouts = {
        "AI_CONNECT_TIMEOUT": provider.connect_timeout,
        "AI_FIRST_TOKEN_TIMEOUT": provider.first_token_timeout,
        "AI_IDLE_TIMEOUT": provider.idle_timeout,
    }
    without_effect = [name for name, seconds in timeouts.items() if seconds >= provider.total_timeout]
    if not without_effect:
        return None
    return Contradiction(
        message=f"{' and '.join(without_effect)} cannot take effect: AI_TOTAL_TIMEOUT ends the answer before.",
        settings=(*without_effect, "AI_TOTAL_TIMEOUT"),
        remedy="Set AI_TOTAL_TIMEOUT above all of them",
    )


def _tokens_outlast_sessions(settings: Settings) -> Contradiction | None:
    auth = settings.auth
    if auth.access_token_minutes < auth.refresh_token_days * 1440:
        return None
    return Contradiction(
        message="ACCESS_TOKEN_MINUTES is not below REFRESH_TOKEN_DAYS: tokens are never refreshed.",
        settings=("ACCESS_TOKEN_MINUTES", "REFRESH_TOKEN_DAYS"),
        remedy="Set ACCESS_TOKEN_MINUTES to 15",
    )


def _previous_key_is_current(settings: Settings) -> Contradiction | None:
    auth = settings.auth
    if auth.jwt_secret_key is None or auth.jwt_secret_key not in auth.jwt_previous_keys:
        return None
    return Contradiction(
        message="JWT_SECRET_KEY is also in JWT_PREVIOUS_KEYS: the key was not rotated.",
        settings=("JWT_SECRET_KEY", "JWT_PREVIOUS_KEYS"),
        remedy="Set a new JWT_SECRET_KEY, or remove this one from JWT_PREVIOUS_KEYS",
    )


def _history_too_small(settings: Settings) -> Contradiction | None:
    chat = settings.chat
    if not chat.history_messages or chat.history_chars >= chat.max_user_chars:
        return None
    return Contradiction(
        message="CHAT_HISTORY_CHARS is below CHAT_MAX_USER_CHARS: the next turn does not see a long message.",
        settings=("CHAT_HISTORY_CHARS", "CHAT_MAX_USER_CHARS", "CHAT_HISTORY_MESSAGES"),
        remedy=f"Set CHAT_HISTORY_CHARS to {chat.max_user_chars * 2} or more, or CHAT_HISTORY_MESSAGES to 0",
    )


def _job_history_too_short(settings: Settings) -> Contradiction | None:
    if settings.jobs.runs_keep_days >= MAX_WINDOW_DAYS:
        return None
    return Contradiction(
        message=f"JOB_RUNS_KEEP_DAYS is {settings.jobs.runs_keep_days}: growth over four weeks and the monthly routine "
        "have no data to compare with.",
        settings=("JOB_RUNS_KEEP_DAYS",),
        remedy=f"Set JOB_RUNS_KEEP_DAYS to {MAX_WINDOW_DAYS} or more",
    )


def _provider_is_its_own_fallback(settings: Settings) -> Contradiction | None:
    default = default_name(settings.provider)
    if default not in settings.provider.fallback:
        return None
    return Contradiction(
        message=f"AI_FALLBACK names {default}, which is the default provider itself.",
        settings=("AI_FALLBACK", "AI_PROVIDER"),
        remedy=f"Remove {default} from AI_FALLBACK",
    )


def _demo_answers_users(settings: Settings) -> Contradiction | None:
    provider = settings.provider
    if "demo" in provider.fallback and default_name(provider) != "demo":
        message, variable = "AI_FALLBACK names demo: if the provider fails, users get demo answers.", "AI_FALLBACK"
    elif provider.name == "demo" and (provider.openai_api_key or provider.openrouter_api_key):
        message, variable = "AI_PROVIDER is demo although a key is set: the key is not used.", "AI_PROVIDER"
    else:
        return None
    return Contradiction(
        message=message, settings=(variable,), remedy=f"Remove demo from {variable}, or unset the other settings"
    )


def _key_sent_in_plain_text(settings: Settings) -> Contradiction | None:
    provider = settings.provider
    for variable, url, key in (
        ("OPENAI_BASE_URL", provider.openai_base_url, provider.openai_api_key),
        ("OPENROUTER_BASE_URL", provider.openrouter_base_url, provider.openrouter_api_key),
    ):
        if url and key and url.startswith("http://") and _may_be_public(urlsplit(url).hostname or ""):
            return Contradiction(
                level=Level.CRITICAL,
                message=f"{variable} begins with http://, so the key and all messages are sent in plain text.",
                settings=(variable,),
                remedy=f"Use https:// in {variable}",
            )
    return None


def _locks_in_another_database(settings: Settings) -> Contradiction | None:
    if settings.database.direct_url is None or settings.database.url != URL_WHEN_STARTED:
        return None
    return Contradiction(
        level=Level.CRITICAL,
        message="DATABASE_DIRECT_URL is set and DATABASE_URL is not: data and locks are in different databases.",
        settings=("DATABASE_URL", "DATABASE_DIRECT_URL"),
        remedy="Set both, or neither",
    )


def _key_limit_without_effect(settings: Settings) -> Contradiction | None:
    limits = settings.limits
    if not 0 < limits.user_per_minute < limits.key_per_minute:
        return None
    return Contradiction(
        message="RATE_LIMIT_KEY is above RATE_LIMIT_USER, which includes a user's keys: it has no effect.",
        settings=("RATE_LIMIT_KEY", "RATE_LIMIT_USER"),
        remedy="Set RATE_LIMIT_USER above RATE_LIMIT_KEY",
    )


def _one_address_can_lock_a_user_out(settings: Settings) -> Contradiction | None:
    limits = settings.limits
    if not limits.login_failures_account or 0 < limits.login_failures < limits.login_failures_account:
        return None
    return Contradiction(
        message="LOGIN_FAILURES is not below LOGIN_FAILURES_ACCOUNT: a single address can lock a user out.",
        settings=("LOGIN_FAILURES", "LOGIN_FAILURES_ACCOUNT"),
        remedy="Set LOGIN_FAILURES_ACCOUNT to ten times LOGIN_FAILURES",
    )


def _limits_per_process(settings: Settings) -> Contradiction | None:
    broker = settings.jobs.broker_url
    if settings.limits.url is not None or broker is None or broker.get_secret_value().startswith("redis"):
        return None
    if settings.server.workers == 1:
        return None
    return Contradiction(
        message=f"CELERY_BROKER_URL is no Redis and RATE_LIMIT_URL is unset: each of {settings.server.workers} web "
        "workers counts separately, so every limit is multiplied by their number.",
        settings=("RATE_LIMIT_URL", "CELERY_BROKER_URL", "WEB_WORKERS"),
        remedy="Set RATE_LIMIT_URL to a Redis server",
    )


def _backups_sent_in_plain_text(settings: Settings) -> Contradiction | None:
    endpoint = settings.backups.s3_endpoint
    if endpoint is None or not endpoint.startswith("http://") or not _may_be_public(urlsplit(endpoint).hostname or ""):
        return None
    return Contradiction(
        level=Level.CRITICAL,
        message="BACKUP_S3_ENDPOINT begins with http://, so backups are sent in plain text.",
        settings=("BACKUP_S3_ENDPOINT",),
        remedy="Use https:// in BACKUP_S3_ENDPOINT",
    )


RULES: tuple[Rule, ...] = (
    _metrics_refused,
    _metrics_open_to_browsers,
    _running_turns_become_stale,
    _locks_never_time_out,
    _deadlines_out_of_order,
    _tokens_outlast_sessions,
    _previous_key_is_current,
    _history_too_small,
    _job_history_too_short,
    _provider_is_its_own_fallback,
    _demo_answers_users,
    _key_sent_in_plain_text,
    _locks_in_another_database,
    _key_limit_without_effect,
    _one_address_can_lock_a_user_out,
    _limits_per_process,
    _backups_sent_in_plain_text,
)


def is_loopback(host: str) -> bool:
    """Return whether a server on that address is reachable from its own host only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _may_be_public(host: str) -> bool:
    """Return whether the host may be on a public network: a public address, or a name that is not a private one."""
    try:
        return is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".localhost"))
