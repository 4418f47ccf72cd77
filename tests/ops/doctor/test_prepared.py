"""A prepared transaction that was forgotten, on a server that allows them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.config import Settings
from ops import embedded
from ops.checks import replication, transactions
from ops.levels import Level
from tests.ops.conftest import home, query  # noqa: F401  # the first is a fixture
from tests.ops.doctor.conftest import Ward, admitted
from tests.ops.doctor.test_transactions import waiting


@pytest.fixture
def allowing(home: Path, settings: Settings) -> Iterator[Ward]:  # noqa: F811
    """An installation on a server of its own, begun again with room for two of them."""
    with embedded.lease_postgres(home, durable=False) as lease:
        query(lease.url, "ALTER SYSTEM SET max_prepared_transactions = 2")
    with embedded.lease_postgres(home, durable=False) as lease, admitted(lease.url, settings, {}) as ward:
        yield ward


@pytest.mark.process
def test_a_prepared_transaction_is_found_when_it_is_old_and_when_somebody_waits_for_it(
    allowing: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowing.run("CREATE TABLE things (id int)")
    allowing.run("BEGIN", "LOCK TABLE things", "PREPARE TRANSACTION 'it''s forgotten'")
    try:
        assert allowing.ask("replication.prepared").level is Level.OK
        monkeypatch.setattr(replication, "PREPARED", timedelta())
        (finding,) = allowing.ask("replication.prepared").findings
        assert finding.level is Level.WARNING
        assert finding.sql == "ROLLBACK PREPARED 'it''s forgotten'"
        monkeypatch.setattr(replication, "ABANDONED", timedelta())
        assert allowing.ask("replication.prepared").level is Level.CRITICAL
        monkeypatch.setattr(transactions, "BLOCKED", timedelta())
        with waiting(allowing, "SELECT FROM things"):
            (finding,) = allowing.ask("transactions.blocked").findings
            assert "waits for a prepared transaction" in finding.what
            assert finding.sql == "SELECT * FROM pg_prepared_xacts"
            shown = allowing.call("locks")
            assert shown.exit_code == 1
            assert shown.stdout.startswith("a prepared transaction\n")
    finally:
        allowing.run("ROLLBACK PREPARED 'it''s forgotten'")
