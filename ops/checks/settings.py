"""Settings that are each allowed and do not go together. One small rule for each; a default never breaks one."""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.config import Settings
from app.providers.registry import default_name
from ops.checks.encryption import is_public
from ops.checks.probe import Probe
from ops.embedded import URL_WHEN_STARTED
from ops.findings import Finding
from ops.levels import Level

LONGEST_WINDOW_DAYS = 35  # that a report compares: `flask ops growth --weeks 4`, and a month of the monthly duty
TICK_SECONDS = 1  # between two heartbeats of a turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """What of which settings does not go together, and what to do."""

    what: str
    settings: tuple[str, ...]
    remedy: str
    level: Level = Level.WARNING


Rule = Callable[[Settings], Contradiction | None]


def contradictions(probe: Probe) -> Iterator[Finding]:
    """A finding for each rule that the settings break."""
    for rule in RULES:
        if (found := rule(probe.settings)) is not None:
            yield Finding(
                level=found.level, what=found.what, evidence={"settings": found.settings}, remedy=found.remedy
            )


def _closed_metrics(settings: Settings) -> Contradiction | None:
    if settings.server.ops_token is not None or is_loopback(settings.server.host):
        return None
    return Contradiction(
        what="HOST is not a loopback address and OPS_TOKEN is unset: nobody can read /metrics or why it is not ready.",
        settings=("HOST", "OPS_TOKEN"),
        remedy="Set OPS_TOKEN to what `openssl rand -hex 32` says, and give it to Prometheus",
    )


def _metrics_for_every_page(settings: Settings) -> Contradiction | None:
    server = settings.server
    if "*" not in server.cors_origins or server.ops_token is not None or not is_loopback(server.host):
        return None
    return Contradiction(
        what="CORS_ORIGINS is * and OPS_TOKEN is unset: any page in a browser on this host can read /metrics.",
        settings=("CORS_ORIGINS", "OPS_TOKEN", "HOST"),
        remedy="Name the origins in CORS_ORIGINS, or set OPS_TOKEN",
    )


def _living_turns_look_silent(settings: Settings) -> Contradiction | None:
    busiest = settings.database.pool_timeout + TICK_SECONDS
    if settings.chat.stale_seconds > busiest:
        return None
    return Contradiction(
        what=f"CHAT_STALE_SECONDS is {settings.chat.stale_seconds}, and DB_POOL_TIMEOUT "
        f"{settings.database.pool_timeout:g}: a turn whose heartbeat waits for a connection is taken for dead.",
        settings=("CHAT_STALE_SECONDS", "DB_POOL_TIMEOUT"),
        remedy=f"Set CHAT_STALE_SECONDS to {int(busiest) + 5} or more",
    )


def _locks_never_time_out(settings: Settings) -> Contradiction | None:
    database = settings.database
    if database.lock_timeout_ms < database.statement_timeout_ms:
        return None
    return Contradiction(
        what="DB_LOCK_TIMEOUT_MS is not below DB_STATEMENT_TIMEOUT_MS: it never passes.",
        settings=("DB_LOCK_TIMEOUT_MS", "DB_STATEMENT_TIMEOUT_MS"),
        remedy="Set DB_LOCK_TIMEOUT_MS to a third of DB_STATEMENT_TIMEOUT_MS",
    )


def _deadlines_out_of_order(settings: Settings) -> Contradiction | None:
    provider = settings.provider
    spans = {
        "AI_CONNECT_TIMEOUT": provider.connect_timeout,
        "AI_FIRST_TOKEN_TIMEOUT": provider.first_token_timeout,
        "AI_IDLE_TIMEOUT": provider.idle_timeout,
    }
    late = [name for name, seconds in spans.items() if seconds >= provider.total_timeout]
    if not late:
        return None
    return Contradiction(
        what=f"{' and '.join(late)} can never pass: AI_TOTAL_TIMEOUT ends an answer before.",
        settings=(*late, "AI_TOTAL_TIMEOUT"),
        remedy="Set AI_TOTAL_TIMEOUT above all of them",
    )


def _session_ends_before_its_token(settings: Settings) -> Contradiction | None:
    auth = settings.auth
    if auth.access_token_minutes < auth.refresh_token_days * 1440:
        return None
    return Contradiction(
        what="ACCESS_TOKEN_MINUTES is as long as REFRESH_TOKEN_DAYS: no token is ever refreshed.",
        settings=("ACCESS_TOKEN_MINUTES", "REFRESH_TOKEN_DAYS"),
        remedy="Keep ACCESS_TOKEN_MINUTES at 15",
    )


def _previous_key_is_the_present_one(settings: Settings) -> Contradiction | None:
    auth = settings.auth
    if auth.jwt_secret_key is None or auth.jwt_secret_key not in auth.jwt_previous_keys:
        return None
    return Contradiction(
        what="JWT_SECRET_KEY is also among JWT_PREVIOUS_KEYS: the key was not changed.",
        settings=("JWT_SECRET_KEY", "JWT_PREVIOUS_KEYS"),
        remedy="Set a new JWT_SECRET_KEY, or leave the old one out of JWT_PREVIOUS_KEYS",
    )


def _no_history_fits(settings: Settings) -> Contradiction | None:
    chat = settings.chat
    if not chat.history_messages or chat.history_chars >= chat.max_user_chars:
        return None
    return Contradiction(
        what="CHAT_HISTORY_CHARS is below CHAT_MAX_USER_CHARS: a long message is forgotten as soon as it is answered.",
        settings=("CHAT_HISTORY_CHARS", "CHAT_MAX_USER_CHARS", "CHAT_HISTORY_MESSAGES"),
        remedy=f"Set CHAT_HISTORY_CHARS to {chat.max_user_chars * 2} or more, or CHAT_HISTORY_MESSAGES to 0",
    )


def _history_is_too_short(settings: Settings) -> Contradiction | None:
    if settings.jobs.runs_keep_days >= LONGEST_WINDOW_DAYS:
        return None
    return Contradiction(
        what=f"JOB_RUNS_KEEP_DAYS is {settings.jobs.runs_keep_days}: growth over four weeks and the monthly duty have "
        "nothing to compare with.",
        settings=("JOB_RUNS_KEEP_DAYS",),
        remedy=f"Set JOB_RUNS_KEEP_DAYS to {LONGEST_WINDOW_DAYS} or more",
    )


def _provider_stands_in_for_itself(settings: Settings) -> Contradiction | None:
    chosen = default_name(settings.provider)
    if chosen not in settings.provider.fallback:
        return None
    return Contradiction(
        what=f"AI_FALLBACK names {chosen}, which is the provider that it should stand in for.",
        settings=("AI_FALLBACK", "AI_PROVIDER"),
        remedy=f"Leave {chosen} out of AI_FALLBACK",
    )


def _demo_answers_people(settings: Settings) -> Contradiction | None:
    provider = settings.provider
    if "demo" in provider.fallback and default_name(provider) != "demo":
        what, names = "AI_FALLBACK names demo: when the provider fails, people get made-up answers.", ("AI_FALLBACK",)
    elif provider.name == "demo" and (provider.openai_api_key or provider.openrouter_api_key):
        what, names = "AI_PROVIDER is demo although a key is set: nobody uses the key.", ("AI_PROVIDER",)
    else:
        return None
    return Contradiction(what=what, settings=names, remedy=f"Leave demo out of {names[0]}, or unset the rest")


def _key_in_the_clear(settings: Settings) -> Contradiction | None:
    provider = settings.provider
    for variable, url, key in (
        ("OPENAI_BASE_URL", provider.openai_base_url, provider.openai_api_key),
        ("OPENROUTER_BASE_URL", provider.openrouter_base_url, provider.openrouter_api_key),
    ):
        if url and key and url.startswith("http://") and _may_be_public(urlsplit(url).hostname or ""):
            return Contradiction(
                level=Level.CRITICAL,
                what=f"{variable} begins with http://, so the key and what people write go there in the clear.",
                settings=(variable,),
                remedy=f"Use https:// in {variable}",
            )
    return None


def _locks_elsewhere(settings: Settings) -> Contradiction | None:
    if settings.database.direct_url is None or settings.database.url != URL_WHEN_STARTED:
        return None
    return Contradiction(
        level=Level.CRITICAL,
        what="DATABASE_DIRECT_URL is set and DATABASE_URL is not: the chats are in another database than the locks.",
        settings=("DATABASE_URL", "DATABASE_DIRECT_URL"),
        remedy="Set both, or neither",
    )


def _key_limit_is_never_reached(settings: Settings) -> Contradiction | None:
    limits = settings.limits
    if not 0 < limits.user_per_minute < limits.key_per_minute:
        return None
    return Contradiction(
        what="RATE_LIMIT_KEY is above RATE_LIMIT_USER, which counts a user's keys as well: it is never reached.",
        settings=("RATE_LIMIT_KEY", "RATE_LIMIT_USER"),
        remedy="Set RATE_LIMIT_USER above RATE_LIMIT_KEY",
    )


def _one_address_closes_an_account(settings: Settings) -> Contradiction | None:
    limits = settings.limits
    if not limits.login_failures_account or 0 < limits.login_failures < limits.login_failures_account:
        return None
    return Contradiction(
        what="LOGIN_FAILURES is not below LOGIN_FAILURES_ACCOUNT: one address alone can close an account to others.",
        settings=("LOGIN_FAILURES", "LOGIN_FAILURES_ACCOUNT"),
        remedy="Set LOGIN_FAILURES_ACCOUNT to ten times LOGIN_FAILURES",
    )


def _limits_of_each_process(settings: Settings) -> Contradiction | None:
    broker = settings.jobs.broker_url
    if settings.limits.url is not None or broker is None or broker.get_secret_value().startswith("redis"):
        return None
    if settings.server.workers == 1:
        return None
    return Contradiction(
        what=f"CELERY_BROKER_URL is no Redis and RATE_LIMIT_URL is unset: each of {settings.server.workers} web "
        "workers counts requests for itself, and every limit is so many times as high.",
        settings=("RATE_LIMIT_URL", "CELERY_BROKER_URL", "WEB_WORKERS"),
        remedy="Set RATE_LIMIT_URL to a Redis",
    )


def _backups_in_the_clear(settings: Settings) -> Contradiction | None:
    endpoint = settings.backups.s3_endpoint
    if endpoint is None or not endpoint.startswith("http://") or not _may_be_public(urlsplit(endpoint).hostname or ""):
        return None
    return Contradiction(
        level=Level.CRITICAL,
        what="BACKUP_S3_ENDPOINT begins with http://, so all that people wrote goes there in the clear.",
        settings=("BACKUP_S3_ENDPOINT",),
        remedy="Use https:// in BACKUP_S3_ENDPOINT",
    )


RULES: tuple[Rule, ...] = (
    _closed_metrics,
    _metrics_for_every_page,
    _living_turns_look_silent,
    _locks_never_time_out,
    _deadlines_out_of_order,
    _session_ends_before_its_token,
    _previous_key_is_the_present_one,
    _no_history_fits,
    _history_is_too_short,
    _provider_stands_in_for_itself,
    _demo_answers_people,
    _key_in_the_clear,
    _locks_elsewhere,
    _key_limit_is_never_reached,
    _one_address_closes_an_account,
    _limits_of_each_process,
    _backups_in_the_clear,
)


def is_loopback(host: str) -> bool:
    """Whether a server that listens there can be reached from its own host only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _may_be_public(host: str) -> bool:
    """A name may be anywhere, unless it is one of a private network."""
    try:
        return is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".localhost"))
