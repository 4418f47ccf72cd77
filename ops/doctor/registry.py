"""The registered checks. A module whose checks are to run must be in `MODULES`."""

from collections.abc import Sequence

from ops.checks.declaration import Check, checks_of
from ops.doctor.checks import (
    archive,
    audit,
    autovacuum,
    backups,
    cache,
    connection,
    constraints,
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
    sequences,
    session_settings,
    settings,
    statements,
    storage,
    transactions,
    triggers,
    vacuum,
    wal_archiving,
    wraparound,
)
from ops.indexes.checks import (
    bloat,
    collations,
    corruption,
    expected,
    foreign_keys,
    hot_queries,
    overlap,
    statistics,
    unused,
    validity,
)

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
    expected,
    validity,
    unused,
    overlap,
    foreign_keys,
    hot_queries,
    bloat,
    corruption,
    collations,
    statistics,
    vacuum,
    autovacuum,
    constraints,
    sequences,
    cache,
    wraparound,
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
INDEX_CHECKS = tuple(check for check in CHECKS if check.group in ("indexes", "tables"))


def select_checks(only: Sequence[str] = (), *, thorough: bool = False, checks: Sequence[Check] = CHECKS) -> list[Check]:
    """Return the checks with the ids or groups in `only`, or all of them.

    A thorough check is included if `thorough` is set or `only` has its id.

    Raises `LookupError`, with the known ids and groups, for an unknown one.
    """
    ids = {check.id for check in checks}
    known = ids | {check.group for check in checks}
    if unknown := [name for name in only if name not in known]:
        raise LookupError(f"There is no check {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    if only:
        selected = [check for check in checks if check.id in only or check.group in only]
        return [check for check in selected if thorough or not check.thorough or check.id in only]
    return [check for check in checks if thorough or not check.thorough]
