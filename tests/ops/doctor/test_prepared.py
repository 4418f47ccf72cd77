"""Abandoned prepared transactions, on a server that allows them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.config import Settings
from ops import embedded
from ops.doctor.checks import replication, transactions
from ops.levels import Level
from tests.ops.conftest import home  # noqa: F401  # a fixture
from tests.ops.doctor.conftest import DoctorInstall, open_install
from tests.ops.doctor.test_transactions import waiting_session
from tests.ops.installation import run_sql


@pytest.fixture
def prepared_install(home: Path, settings: Settings) -> Iterator[DoctorInstall]:  # noqa: F811
    """Create an installation on a separate server that allows two prepared transactions."""
    with embedded.lease_postgres(home, durable=False) as lease:
        run_sql(lease.url, "ALTER SYSTEM SET max_prepared_transactions = 2")
    with embedded.lease_postgres(home, durable=False) as lease, open_install(lease.url, settings, {}) as install:
        yield install


@pytest.mark.process
def test_old_or_blocking_prepared_transaction_is_found(
    prepared_install: DoctorInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared_install.run("CREATE TABLE things (id int)")
    prepared_install.run("BEGIN", "LOCK TABLE things", "PREPARE TRANSACTION 'it''s abandoned'")
    try:
        assert prepared_install.run_check("replication.prepared").level is Level.OK
        monkeypatch.setattr(replication, "PREPARED", timedelta())
        (finding,) = prepared_install.run_check("replication.prepared").findings
        assert finding.level is Level.WARNING
        assert finding.sql == "ROLLBACK PREPARED 'it''s abandoned';"
        monkeypatch.setattr(replication, "ABANDONED", timedelta())
        assert prepared_install.run_check("replication.prepared").level is Level.CRITICAL
        monkeypatch.setattr(transactions, "BLOCKED", timedelta())
        with waiting_session(prepared_install, "SELECT FROM things"):
            (finding,) = prepared_install.run_check("transactions.blocked").findings
            assert "waits for a prepared transaction" in finding.message
            assert finding.sql == "SELECT * FROM pg_prepared_xacts"
            shown = prepared_install.call("locks")
            assert shown.exit_code == 1
            assert shown.stdout.startswith("a prepared transaction\n")
    finally:
        prepared_install.run("ROLLBACK PREPARED 'it''s abandoned'")
