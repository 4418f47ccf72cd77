"""Settings of PostgreSQL with which it plans badly, does not show what it does, or logs what users write."""

from collections.abc import Iterator
from dataclasses import dataclass

from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.checks.setting_sources import SettingValue, read_settings
from ops.doctor.checks.connection import pooled
from ops.levels import Level

_PLANS = "statements are planned as if"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The sensible values of a number, in the setting's unit, and what happens outside of them."""

    name: str
    minimum: float
    maximum: float
    effect: str


BOUNDS = (
    Bounds("cpu_tuple_cost", 0.0001, 1, f"{_PLANS} reading a row cost almost nothing, or as much as a page"),
    Bounds("default_statistics_target", 10, 10_000, "ANALYZE samples so few rows that plans are guesses"),
    Bounds("effective_cache_size", 8192, float("inf"), f"{_PLANS} each read of an index went to the disk"),  # 64 MB
    Bounds("from_collapse_limit", 4, float("inf"), "joins are planned in the order in which they are written"),
    Bounds("join_collapse_limit", 4, float("inf"), "joins are planned in the order in which they are written"),
    Bounds("random_page_cost", 0.1, 20, f"{_PLANS} an index cost more than reading the whole table, or nothing"),
    Bounds("seq_page_cost", 0.1, 20, f"{_PLANS} reading a whole table cost more than it does, or nothing"),
)
# Values that are wrong for every installation, and their effect.
WRONG = {
    ("log_statement", "all"): "every statement is logged with its parameters, which are what users write, and password"
    " hashes; the log grows with each request",
    ("log_min_duration_statement", "0"): "every statement is logged with its parameters, which are what users write,"
    " and password hashes; the log grows with each request",
    ("track_activities", "off"): "what sessions run and wait for is not shown: flask ops locks and the checks of"
    " transactions see nothing",
    ("track_counts", "off"): "autovacuum and the checks of tables and indexes have no counters",
}


@check("server.planner", "Do PostgreSQL's settings let it plan well, and show what it does?", severity=Level.WARNING)
def planner(context: CheckContext) -> Iterator[Finding]:
    """Find absurd costs and statistics targets, activity that is not tracked, and a log of all statements."""
    names = [*(each.name for each in BOUNDS), *(name for name, _ in WRONG)]
    with pooled(context) as connection:  # the application's role may have its own settings
        values = {setting.name: setting for setting in read_settings(connection, names)}
    for bounds in BOUNDS:
        setting = values.get(bounds.name)
        if setting is not None and not bounds.minimum <= float(setting.value) <= bounds.maximum:
            yield _finding(setting, bounds.effect)
    for (name, wrong), effect in WRONG.items():
        setting = values.get(name)
        if setting is not None and setting.value == wrong:
            yield _finding(setting, effect)


def _finding(setting: SettingValue, effect: str) -> Finding:
    return Finding(
        level=Level.WARNING,
        message=f"{setting.name} is {setting.value}: {effect}.",
        object=setting.name,
        evidence={"default": setting.default, "set_by": setting.source, "role": setting.role},
        remedy=setting.remedy(f"Set {setting.name} to its default or another suitable value"),
        sql=setting.change(f"'{setting.default}'"),
    )
