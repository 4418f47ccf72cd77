"""The settings that sessions begin with, and those that are written for the role and the database."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.session_settings import SessionSetting
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.checks.connection import pooled
from ops.levels import Level
from ops.maintenance.role_settings import WrittenSetting, actual_settings, expected_settings, written_settings

# Other settings of these categories change plans or outcomes too. Those in `CHECKED_ELSEWHERE` have their own checks.
CATEGORIES = ("Query Tuning", "Client Connection Defaults / Statement Behavior")
CHECKED_ELSEWHERE = {"default_transaction_read_only", "session_replication_role"}


@check("connection.settings", "Do sessions begin with the settings that Parley relies on?", severity=Level.WARNING)
def settings(context: CheckContext) -> Iterator[Finding]:
    """Compare the settings of DATABASE_URL's sessions, and those of the role and the database, with the declaration."""
    with pooled(context) as connection:
        driver: Any = connection.connection.dbapi_connection
        expected, actual = expected_settings(connection), actual_settings(connection)
        written = written_settings(connection)
    different = [each for each in expected if not each.matches(actual.get(each.name.lower(), each.value))]
    if different:
        yield _different(different, actual, written, is_pooled=driver.is_pooled)
    names = {each.name for each in different}
    overridden = [
        each
        for each in expected
        if each.name not in names
        and each.name.lower() in written
        and not each.matches(written[each.name.lower()].value)
    ]
    if overridden:
        yield _overridden(overridden, written)
    declared = {each.name.lower() for each in expected}
    others = {
        name: setting
        for name, setting in written.items()
        if name not in declared | CHECKED_ELSEWHERE and setting.category.startswith(CATEGORIES)
    }
    if others:
        yield Finding(
            object="other settings",
            level=Level.WARNING,
            message="The role or the database has settings that change how Parley's statements are planned or run.",
            evidence={name: {"written": setting.value, "for": setting.owner} for name, setting in others.items()},
            remedy="Is this intended? If nothing needs them, reset them, and restart Parley",
            sql=_reset(others),
        )


def _different(
    different: Sequence[SessionSetting],
    actual: Mapping[str, str],
    written: Mapping[str, WrittenSetting],
    *,
    is_pooled: bool,
) -> Finding:
    is_written = all(
        each.name.lower() in written and each.matches(written[each.name.lower()].value) for each in different
    )
    if not is_pooled:
        remedy = "Does DATABASE_URL have `options` of its own? They take precedence"
    elif is_written:
        remedy = "They are written for the role: let the pooler reconnect; in PgBouncer: RECONNECT"
    else:
        remedy = "flask ops database settings"
    return Finding(
        object="sessions",
        level=Level.WARNING,
        message="Sessions of DATABASE_URL begin with other settings than Parley relies on.",
        evidence={
            each.name: {"expected": each.value, "actual": actual[each.name.lower()], "effect": each.reason}
            for each in different
        },
        remedy=remedy,
    )


def _overridden(overridden: Sequence[SessionSetting], written: Mapping[str, WrittenSetting]) -> Finding:
    found = {each.name: written[each.name.lower()] for each in overridden}
    return Finding(
        object="overridden settings",
        level=Level.WARNING,
        message="The role or the database has settings that Parley's connections override; other programs, and a"
        " pooler, get them.",
        evidence={
            each.name: {"expected": each.value, "written": found[each.name].value, "for": found[each.name].owner}
            for each in overridden
        },
        remedy="Is this intended? If nothing else needs them, reset them",
        sql=_reset(found),
    )


def _reset(found: Mapping[str, WrittenSetting]) -> str:
    return "\n".join(f"ALTER {setting.owner} RESET {name};" for name, setting in found.items())
