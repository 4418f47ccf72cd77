"""Reconciliation of the copies of files at providers with their rows.

A copy without a row is deleted at the provider if its name has the mark of this installation. A row whose copy the
provider does not have is uploaded again. Other files of the operator's account are never touched.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from app.container import current_settings
from app.database import autocommit
from app.providers.files import ProviderFilesClient
from app.repositories import provider_files as sql
from app.services.provider_uploads import copy_prefix
from ops.maintenance.provider_files import provider_client, reachable_providers

# Longer than an upload may take until its row is stored, and the difference of two clocks.
UNKNOWN_AFTER: Final = timedelta(hours=1)
_BATCH: Final = 1000

_log = logging.getLogger("parley.files")


@dataclass(frozen=True, slots=True)
class Orphans:
    """At one provider: ids of copies `without_row`, and of rows `without_copy`."""

    provider: str
    without_row: tuple[str, ...]
    without_copy: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProviderFilesReconciliation:
    """Numbers of copies `without_row`, which are deleted, and of rows `without_copy`, which are uploaded again.

    With `dry_run`, nothing is changed.
    """

    without_row: int
    without_copy: int
    dry_run: bool = False


def reconcile_provider_files(*, dry_run: bool = False) -> ProviderFilesReconciliation:
    """Find copies without a row and rows without a copy, and have the next `provider_files.sync` repair both.

    Raises `ProviderError` if a provider does not list its files; the providers before it are repaired.
    """
    without_row = without_copy = 0
    for found in find_orphans():
        without_row += len(found.without_row)
        without_copy += len(found.without_copy)
        if not dry_run:
            _repair(found)
    if without_row or without_copy:
        _log.warning("%d files at providers had no row, %d rows had no file", without_row, without_copy)
    return ProviderFilesReconciliation(without_row, without_copy, dry_run)


def find_orphans() -> Iterator[Orphans]:
    """Yield what is found at each provider that has, or should have, copies. Raises `ProviderError`."""
    with autocommit() as connection:
        prefix = copy_prefix(connection)
        used = {row.provider for row in sql.IN_USE.all(connection, {})}
    wanted = used | set(current_settings().files.providers)
    for name in reachable_providers():
        if name in wanted:
            with provider_client(name) as client:
                yield _orphans_of(client, prefix)


def _orphans_of(client: ProviderFilesClient, prefix: str) -> Orphans:
    now = datetime.now(UTC)
    listed, old = set[str](), list[str]()
    for file in client.list_files(prefix=prefix):
        listed.add(file.id)
        if file.created_at < now - UNKNOWN_AFTER:
            old.append(file.id)
    # A list may lack a file that is there; what is uploaded again would be there twice.
    missing = tuple(
        remote_id
        for remote_id in _copies(client.name, before=now - UNKNOWN_AFTER)
        if remote_id not in listed and not client.exists(remote_id)
    )
    return Orphans(client.name, tuple(_unknown(client.name, old)), missing)


def _unknown(provider: str, remote_ids: Iterable[str]) -> Iterator[str]:
    ids = iter(remote_ids)
    while batch := list(islice(ids, _BATCH)):
        with autocommit() as connection:
            rows = sql.UNKNOWN.all(connection, {"provider": provider, "remote_ids": batch})
        yield from (row.id for row in rows)


def _copies(provider: str, before: datetime) -> Iterator[str]:
    after = ""
    while True:
        with autocommit() as connection:
            parameters = {"provider": provider, "after": after, "before": before, "batch": _BATCH}
            rows = sql.COPIES.all(connection, parameters)
        yield from (row.remote_id for row in rows)
        if len(rows) < _BATCH:
            return
        after = rows[-1].remote_id


def _repair(found: Orphans) -> None:
    with autocommit() as connection:
        sql.REMOVE.run(connection, {"provider": found.provider, "remote_ids": list(found.without_row)})
        for remote_id in found.without_copy:
            sql.UPLOAD_AGAIN.run(connection, {"provider": found.provider, "remote_id": remote_id})
