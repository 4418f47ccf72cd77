"""The registered checks of indexes and tables: those of `flask ops index check`, and a part of the doctor's."""

from ops.checks.declaration import checks_of
from ops.doctor.checks import autovacuum, cache, constraints, sequences, vacuum, wraparound
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

# The order in which they run and are listed.
INDEX_MODULES = (
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
)
INDEX_CHECKS = tuple(check for module in INDEX_MODULES for check in checks_of(module))
