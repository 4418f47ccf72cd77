"""Comparison of a restored database with the manifest of its dump."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ops.backup.manifest import Contents, Table
from ops.backup.restoring import Skipped


def find_differences(expected: Contents, actual: Contents) -> Iterator[str]:
    """Yield one sentence per difference from the manifest. No sentence contains data of a row."""
    yield from _compare_tables(expected.tables, actual.tables)
    for kind in sorted({*expected.objects, *actual.objects}):
        expected_count, actual_count = expected.objects.get(kind, 0), actual.objects.get(kind, 0)
        if expected_count != actual_count:
            yield f"there are {actual_count} {kind} instead of {expected_count}"
    for name in sorted(expected.extensions.keys() - actual.extensions.keys()):
        yield f"the extension {name} is missing"
    yield from _compare_value("the migration", _join(expected.alembic), _join(actual.alembic))
    yield from _compare_value("the newest message's time", expected.newest_message_at, actual.newest_message_at)
    if expected.audit_seal is not None:
        yield from _compare_value("the newest seal of the audit", expected.audit_seal, actual.audit_seal)


def without_skipped(expected: Contents, skipped: Iterable[Skipped]) -> Contents:
    """Return the contents without the extensions that the restore skipped."""
    names = {each.name for each in skipped if each.kind == "extension"}
    kept = {name: version for name, version in expected.extensions.items() if name not in names}
    return replace(expected, extensions=kept)


def _compare_tables(expected: Mapping[str, Table], actual: Mapping[str, Table]) -> Iterator[str]:
    for name in sorted(expected.keys() - actual.keys()):
        yield f"the table {name} is missing ({expected[name].rows:,} rows)"
    for name in sorted(actual.keys() - expected.keys()):
        yield f"the table {name} is not in the manifest"
    for name in sorted(expected.keys() & actual.keys()):
        if expected[name].rows != actual[name].rows:
            yield f"{name} has {actual[name].rows:,} rows instead of {expected[name].rows:,}"
        elif expected[name].digest != actual[name].digest:
            yield f"{name} has the right number of rows, but at least one of them is different"


def _compare_value(label: str, expected: Any, actual: Any) -> Iterator[str]:
    if expected != actual:
        yield f"{label} is {actual or 'none'} instead of {expected or 'none'}"


def _join(heads: tuple[str, ...]) -> str:
    return ", ".join(sorted(heads))
