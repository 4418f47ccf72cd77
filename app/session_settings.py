"""The settings of PostgreSQL that Parley's statements rely on, declared once.

A direct connection gets them as startup options. A pooler drops those, so `flask ops database settings` writes them for
the role, and the check `connection.settings` compares what a session has. A role, a database or a server may set any of
them to another value, and then statements return other rows, fail or take much longer.

`default_transaction_read_only` is not among them: an operator sets it to stop all writes, and Parley obeys.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.config import Database

OLDEST_VERSION = 15  # of PostgreSQL


@dataclass(frozen=True, slots=True)
class SessionSetting:
    """A setting and its value, as `pg_settings` shows it. `reason`: what another value would change."""

    name: str
    value: str
    reason: str
    since: int = OLDEST_VERSION  # major version of PostgreSQL

    def matches(self, value: str) -> bool:
        """Return whether `value` means the same; spaces and upper case have no meaning."""
        return _normalized(value) == _normalized(self.value)


_ROWS = "statements return or store something else"
_ERRORS = "statements fail, or their connection is closed"
_PLANS = "statements take much longer"

_FIXED = (
    *(
        SessionSetting(name, value, _ROWS)
        for name, value in {
            "DateStyle": "ISO, MDY",
            "IntervalStyle": "postgres",
            "TimeZone": "UTC",
            "array_nulls": "on",
            "backslash_quote": "safe_encoding",
            "client_encoding": "UTF8",
            "extra_float_digits": "1",
            "gin_fuzzy_search_limit": "0",
            "quote_all_identifiers": "off",
            "row_security": "on",
            "standard_conforming_strings": "on",
            "transform_null_equals": "off",
        }.items()
    ),
    *(
        SessionSetting(name, value, _ERRORS)
        for name, value in {
            "client_min_messages": "notice",
            "default_transaction_deferrable": "off",
            "default_transaction_isolation": "read committed",
            "exit_on_error": "off",
            "idle_session_timeout": "0",
        }.items()
    ),
    SessionSetting("transaction_timeout", "0", _ERRORS, since=17),
    *(
        SessionSetting(name, value, _PLANS)
        for name, value in {
            "constraint_exclusion": "partition",
            "enable_bitmapscan": "on",
            "enable_hashagg": "on",
            "enable_hashjoin": "on",
            "enable_incremental_sort": "on",
            "enable_indexonlyscan": "on",
            "enable_indexscan": "on",
            "enable_material": "on",
            "enable_memoize": "on",
            "enable_mergejoin": "on",
            "enable_nestloop": "on",
            "enable_seqscan": "on",
            "enable_sort": "on",
            "enable_tidscan": "on",
            "from_collapse_limit": "8",
            "jit": "off",
            "join_collapse_limit": "8",
            "plan_cache_mode": "auto",
        }.items()
    ),
)


def session_settings(settings: Database) -> tuple[SessionSetting, ...]:
    """Return all settings: the fixed ones, the configured timeouts in milliseconds, and the search path."""
    timeouts = {
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout_ms,
        "lock_timeout": settings.lock_timeout_ms,
        "statement_timeout": settings.statement_timeout_ms,
    }
    return (
        SessionSetting("search_path", settings.search_path, "statements use other tables"),
        *(SessionSetting(name, str(limit), "statements hang, or end too soon") for name, limit in timeouts.items()),
        *_FIXED,
    )


def startup_options(settings: Iterable[SessionSetting], version: int) -> str:
    """Return libpq's `options` for the settings that PostgreSQL of this major version has."""
    return as_options({setting.name: setting.value for setting in settings if setting.since <= version})


def as_options(values: Mapping[str, str]) -> str:
    """Return libpq's `options` that set these settings at the start of a connection."""
    escaped = {name: value.replace("\\", "\\\\").replace(" ", "\\ ") for name, value in values.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items())


def _normalized(value: str) -> str:
    return value.replace(" ", "").replace("'", '"').lower()
