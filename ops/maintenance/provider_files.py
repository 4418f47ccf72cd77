"""Copies of files at providers: uploads for the projects that opt in, and deletions of copies that are not wanted.

No connection is held while a provider or the store of files is asked. Each step can be repeated: a run that is killed
between the provider's answer and the row leaves a copy without a row, which the daily reconciliation finds.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.exc import IntegrityError

from app.container import current_settings, provider_services
from app.database import autocommit, current_engine
from app.enums import ProviderFileState
from app.errors import ProviderError
from app.metrics.provider_files import record_provider_removal, record_provider_upload
from app.providers.files import FileRejected, ProviderFilesClient
from app.repositories import erasure
from app.repositories import provider_files as sql
from app.services.file_store import open_file_store
from app.services.provider_uploads import ObjectStream, copy_name, copy_prefix
from app.storage.base import Store
from app.storage.errors import StorageError, StorageUnavailable
from app.text import shortened
from ops.runs.batches import TimeBudget

SECONDS: Final = 120.0  # in which uploads and deletions begin; the last one may take FILES_PROVIDER_TIMEOUT more
CLAIM_SECONDS: Final = 900  # longer than a run
MAX_ATTEMPTS: Final = 8  # until a copy counts as failed; they take about a day
FIRST_PAUSE, LONGEST_PAUSE, DAY = 30, 21_600, 86_400  # seconds
REASON_CHARS: Final = 500
_BATCH: Final = 500

_log = logging.getLogger("parley.files")


@dataclass(frozen=True, slots=True)
class ProviderFilesReport:
    """Copies that were `added` to be uploaded or `withdrawn`, and what was done at the providers.

    `retried` uploads failed and are tried again, `failed` ones for the last time. `more` is true if time ran out.
    """

    added: int
    withdrawn: int
    uploaded: int
    retried: int
    failed: int
    removed: int
    unremoved: int
    more: bool = False


@dataclass(slots=True)
class _Run:
    """One run: the clients of the providers, and those that are left out because their last request failed."""

    allowed: Sequence[str]
    default: str
    budget: TimeBudget
    counts: dict[str, int] = field(default_factory=dict)
    clients: dict[str, ProviderFilesClient] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)

    @property
    def wanted(self) -> dict[str, Any]:
        return {"providers": list(self.allowed), "default": self.default}

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def client(self, provider: str) -> ProviderFilesClient:
        if provider not in self.clients:
            self.clients[provider] = provider_client(provider)
        return self.clients[provider]


def reachable_providers() -> list[str]:
    """Return the configured providers that have a server."""
    return [name for name in provider_services().configured.names if name != "demo"]


def provider_client(provider: str) -> ProviderFilesClient:
    """Return a new client of a configured provider."""
    configured = provider_services().configured.get(provider)
    return ProviderFilesClient(configured, current_settings().files.provider_timeout)


def sync_provider_files(*, seconds: float = SECONDS) -> ProviderFilesReport:
    """Delete the copies that are not wanted, and upload those that are missing.

    Raises `StorageUnavailable` if the store of files fails; the uploads are repeated.
    """
    reachable = reachable_providers()
    allowed = [name for name in current_settings().files.providers if name in reachable]
    run = _Run(allowed, provider_services().choices.current().name, TimeBudget(seconds))
    withdrawn, added = _withdraw(run), _add(run)
    try:
        _remove_all(run, reachable)
        with autocommit() as connection:
            erasure.PROVIDER_COPIES_DELETED.run(connection, {})
        if allowed:
            _upload_all(run)
    finally:
        for client in run.clients.values():
            client.close()
    counts = {name: run.counts.get(name, 0) for name in ("uploaded", "retried", "failed", "removed", "unremoved")}
    return ProviderFilesReport(added, withdrawn, **counts, more=run.budget.expired)


def _withdraw(run: _Run) -> int:
    withdrawn = 0
    while True:
        with autocommit() as connection:
            row = sql.WITHDRAW.one(connection, {**run.wanted, "batch": _BATCH})
            sql.DELETE_WITHDRAWN.run(connection, {})
        rows = int(row.rows) if row is not None else 0
        withdrawn += rows
        if rows < _BATCH or run.budget.expired:
            return withdrawn


def _add(run: _Run) -> int:
    added = 0
    while run.allowed:
        try:
            with autocommit() as connection:
                rows = sql.ADD.run(connection, {**run.wanted, "batch": _BATCH})
        except IntegrityError:  # the user is being erased; the next run adds the others
            return added
        added += rows
        if rows < _BATCH or run.budget.expired:
            break
    return added


def _remove_all(run: _Run, providers: list[str]) -> None:
    """Delete copies at the providers, except at those of which a request fails."""
    while True:
        usable = [name for name in providers if name not in run.failing]
        with autocommit() as connection:
            rows = sql.REMOVALS.all(connection, {"providers": usable, "batch": _BATCH})
        for row in rows:
            if run.budget.expired:
                return
            if row.provider not in run.failing:
                _remove(run, row.provider, row.remote_id, row.attempts)
        if len(rows) < _BATCH:
            return


def _remove(run: _Run, provider: str, remote_id: str, attempts: int) -> None:
    key = {"provider": provider, "remote_id": remote_id}
    try:
        run.client(provider).delete(remote_id)
    except ProviderError as error:
        _log.warning("a file could not be deleted at %s: %s", provider, error.detail)
        with autocommit() as connection:
            sql.REMOVAL_FAILED.run(connection, {**key, "seconds": pause_after(attempts + 1)})
        run.failing.add(provider)
        run.count("unremoved")
        record_provider_removal("retried")
        return
    with current_engine().begin() as connection:
        for statement in sql.REMOVED:
            statement.run(connection, key)
    run.count("removed")
    record_provider_removal("removed")


def _upload_all(run: _Run) -> None:
    """Upload what is due, except to providers of which a request fails."""
    store = open_file_store(current_settings())
    with autocommit() as connection:
        prefix = copy_prefix(connection)
    while True:
        usable = [name for name in run.allowed if name not in run.failing]
        with autocommit() as connection:
            rows = sql.DUE.all(connection, {"providers": usable, "batch": _BATCH})
        for row in rows:
            if run.budget.expired:
                return
            if row.provider not in run.failing:
                _upload(run, {"user_id": row.user_id, "file_id": row.file_id, "provider": row.provider}, store, prefix)
        if len(rows) < _BATCH:
            return


def _upload(run: _Run, key: Mapping[str, Any], store: Store, prefix: str) -> None:
    with autocommit() as connection:
        row = sql.CLAIM.one(connection, {**key, **run.wanted, "seconds": CLAIM_SECONDS})
    if row is None:  # deleted, or not wanted any more
        return
    attempt = {**key, "attempts": row.attempts}
    content = ObjectStream(store, row.object, row.bytes, current_settings().files.provider_timeout)
    try:
        # RawIOBase has all that the package reads.
        name = copy_name(prefix, key["file_id"], row.name)
        remote_id = run.client(key["provider"]).upload(name, content, row.media_type)  # type: ignore[arg-type]
    except FileRejected as error:
        _failed(run, attempt, str(error), None)
        return
    except StorageError as error:
        _failed(run, attempt, "The content of the file could not be read.", pause_after(row.attempts))
        if isinstance(error, StorageUnavailable):
            raise
        return
    except ProviderError as error:
        run.failing.add(key["provider"])
        pause = max(pause_after(row.attempts), getattr(error, "retry_after", None) or 0)
        _failed(run, attempt, error.detail, pause)
        return
    with autocommit() as connection:
        if not sql.UPLOADED.run(connection, {**attempt, "remote_id": remote_id}):
            # The file was deleted during its upload.
            sql.REMOVE.run(connection, {"provider": key["provider"], "remote_ids": [remote_id]})
    run.count("uploaded")
    record_provider_upload("uploaded")


def _failed(run: _Run, attempt: Mapping[str, Any], reason: str, seconds: float | None) -> None:
    """Record a failed attempt. `seconds` until the next one; None for never."""
    final = seconds is None or attempt["attempts"] >= MAX_ATTEMPTS
    state = ProviderFileState.FAILED if final else ProviderFileState.PENDING
    seconds = DAY if final and seconds is not None else seconds
    values = {"state": state, "reason": shortened(reason, REASON_CHARS), "seconds": seconds}
    with autocommit() as connection:
        sql.FAILED.run(connection, {**attempt, **values})
    run.count("failed" if final else "retried")
    record_provider_upload("failed" if final else "retried")


def pause_after(attempts: int) -> float:
    """Return the seconds from one failed attempt to the next: 30, then four times as long each time, up to 6 hours."""
    return float(min(FIRST_PAUSE * 4 ** min(attempts - 1, 10), LONGEST_PAUSE))
