"""A restored database against the manifest of the dump that it came from."""

from collections.abc import Iterator, Mapping
from typing import Any

from ops.backup.manifest import Contents, Table


def differences(expected: Contents, found: Contents) -> Iterator[str]:
    """What is not as the manifest says, one sentence each; nothing of what is in a row."""
    yield from _tables(expected.tables, found.tables)
    for kind in sorted({*expected.objects, *found.objects}):
        want, got = expected.objects.get(kind, 0), found.objects.get(kind, 0)
        if want != got:
            yield f"there are {got} {kind} instead of {want}"
    for name in sorted(expected.extensions.keys() - found.extensions.keys()):
        yield f"the extension {name} is missing"
    yield from _one("the migration", _words(expected.alembic), _words(found.alembic))
    yield from _one("the newest message's time", expected.newest_message_at, found.newest_message_at)


def _tables(expected: Mapping[str, Table], found: Mapping[str, Table]) -> Iterator[str]:
    for name in sorted(expected.keys() - found.keys()):
        yield f"the table {name} is missing ({expected[name].rows:,} rows)"
    for name in sorted(found.keys() - expected.keys()):
        yield f"the table {name} is not in the manifest"
    for name in sorted(expected.keys() & found.keys()):
        if expected[name].rows != found[name].rows:
            yield f"{name} has {found[name].rows:,} rows instead of {expected[name].rows:,}"
        elif expected[name].digest != found[name].digest:
            yield f"{name} has the right number of rows, but at least one of them is different"


def _one(what: str, expected: Any, found: Any) -> Iterator[str]:
    if expected != found:
        yield f"{what} is {found or 'none'} instead of {expected or 'none'}"


def _words(heads: tuple[str, ...]) -> str:
    return ", ".join(sorted(heads))
