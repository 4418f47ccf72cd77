"""The registered checks. A module whose checks are to run must be in `MODULES`, or in those of `index_registry`."""

from collections.abc import Sequence

from ops.checks.declaration import Check, checks_of
from ops.checks.selection import choose_checks
from ops.doctor.checks import (
    archive,
    audit,
    backups,
    connection,
    drift,
    durability,
    email_keys,
    encryption,
    erasures,
    files,
    jobs,
    mail,
    mcp,
    memory,
    migrations,
    planner,
    pool,
    pooler,
    privileges,
    provider,
    provider_files,
    replication,
    roles,
    secrets,
    session_settings,
    settings,
    statements,
    storage,
    transactions,
    triggers,
    wal_archiving,
)
from ops.doctor.index_registry import INDEX_MODULES

# The order in which checks run and are listed: first those whose failure explains the failure of others.
MODULES = (
    connection,
    encryption,
    pooler,
    session_settings,
    roles,
    privileges,
    migrations,
    drift,
    triggers,
    pool,
    transactions,
    replication,
    storage,
    files,
    durability,
    memory,
    planner,
    statements,
    *INDEX_MODULES,
    jobs,
    provider,
    provider_files,
    mcp,
    mail,
    settings,
    secrets,
    audit,
    backups,
    wal_archiving,
    archive,
    erasures,
    email_keys,
)
CHECKS = tuple(check for module in MODULES for check in checks_of(module))


def select_checks(only: Sequence[str] = (), *, thorough: bool = False) -> list[Check]:
    """Return the checks with the ids or groups in `only`, or all of them. Raises `LookupError` as `choose_checks`."""
    return choose_checks(CHECKS, only, thorough=thorough)
