"""All of `flask ops`: one module for each noun; importing one adds its commands to the group."""

from ops.cli import (
    archive,
    audit,
    backup,
    doctor,
    growth,
    index,
    jobs,
    key,
    locks,
    pool,
    provider,
    routine,
    seed,
    slow,
    user,
)
from ops.cli.frame import ops

NOUNS = (archive, audit, backup, doctor, growth, index, jobs, key, locks, pool, provider, routine, seed, slow, user)

__all__ = ["NOUNS", "ops"]
