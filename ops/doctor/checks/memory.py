"""PostgreSQL's memory settings for the application's role."""

from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.checks.setting_sources import SettingValue, read_settings
from ops.doctor.checks.connection import pooled
from ops.doctor.checks.pool import required_connections
from ops.doctor.checks.storage import is_local
from ops.formatting import format_size
from ops.levels import Level

KIB, MIB, GIB = 2**10, 2**20, 2**30
_UNITS = {"B": 1, "kB": KIB, "8kB": 8 * KIB, "MB": MIB}


@dataclass(frozen=True, slots=True)
class Bound:
    """The least useful value of a setting in bytes, one that is enough, and the effect of less. -1 has no limit."""

    name: str
    minimum: int
    enough: str
    effect: str


BOUNDS = (
    Bound("maintenance_work_mem", 16 * MIB, "'64MB'", "building an index and vacuuming take much longer"),
    Bound("shared_buffers", 32 * MIB, "'128MB'", "most reads go to the disk"),
    Bound("temp_file_limit", GIB, "-1", "a search or a report with a large sort fails"),
    Bound("work_mem", MIB, "'4MB'", "sorts and hashes of searches and lists go to the disk"),
)
MAX_WORK_MEM = GIB  # for each sort of each connection
MEMORY_SHARE = 1.0  # of this host's memory, for one sort of each connection


@check("server.memory", "Do PostgreSQL's memory settings suit the application?", severity=Level.WARNING)
def memory(context: CheckContext) -> Iterator[Finding]:
    """Find memory settings that are too small, and a `work_mem` that can exhaust the memory."""
    with pooled(context) as connection:  # the application's role may have its own settings
        values = {each.name: each for each in read_settings(connection, [bound.name for bound in BOUNDS])}
    for bound in BOUNDS:
        setting = values.get(bound.name)
        if setting is not None and 0 <= (size := size_of(setting)) < bound.minimum:
            yield _finding(setting, f"{bound.name} is {format_size(size)}: {bound.effect}.", bound.enough)
    setting = values.get("work_mem")
    if setting is None:
        return
    total = psutil.virtual_memory().total if is_local(context) else None
    size, connections = size_of(setting), required_connections(context)
    if size > MAX_WORK_MEM or (total is not None and size * connections > MEMORY_SHARE * total and size > 64 * MIB):
        message = (
            f"work_mem is {format_size(size)} for each sort of each of {connections} connections: PostgreSQL may run"
            " out of memory."
        )
        yield _finding(setting, message, "'4MB'")


def size_of(setting: SettingValue) -> int:
    """Return the value in bytes; negative without a limit."""
    return int(setting.value) * _UNITS.get(setting.unit or "B", 1)


def _finding(setting: SettingValue, message: str, value: str) -> Finding:
    return Finding(
        level=Level.WARNING,
        message=message,
        object=setting.name,
        evidence={"set_by": setting.source, "role": setting.role},
        remedy=setting.remedy(f"Set {setting.name} to {value.strip(chr(39))} or another suitable value"),
        sql=setting.change(value),
    )
