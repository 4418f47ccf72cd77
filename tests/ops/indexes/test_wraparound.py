"""Transaction ID wraparound, on a server whose next id was really advanced."""

from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine

from app.config import Settings
from ops import embedded
from ops.checks.context import CheckContext
from ops.doctor.checks.wraparound import ID_LIMIT, wraparound
from ops.embedded.binaries import find_postgres
from ops.embedded.server import run_tool
from ops.embedded.site import open_site
from ops.levels import Level
from tests.ops.indexes.conftest import IndexDatabase, read_only

SEGMENT = 32 * 8192  # bytes of pg_xact in one file: two bits for each transaction
PER_SEGMENT = SEGMENT * 4


def test_new_server_has_no_finding(shared_database: IndexDatabase) -> None:
    assert list(wraparound(shared_database.context)) == []


@pytest.mark.process
def test_old_ids_are_found(home: Path, settings: Settings) -> None:
    """Set the next transaction id with `pg_resetwal`, and create the pg_xact segment that it needs."""
    with embedded.lease_postgres(home, durable=False):
        pass
    site = open_site(home)
    data = site.home / "postgres"
    tool = find_postgres(site, int((data / "PG_VERSION").read_text())).folder / "pg_resetwal"
    if not tool.exists():
        pytest.skip("these programs have no pg_resetwal")
    (data / "postgresql.auto.conf").write_text("autovacuum_freeze_max_age = 2000000000\n")
    for share, level in ((0.45, None), (0.55, Level.WARNING), (0.8, Level.CRITICAL)):
        number = int(share * ID_LIMIT) // PER_SEGMENT * PER_SEGMENT
        segment = data / "pg_xact" / f"{number // PER_SEGMENT:04X}"
        segment.write_bytes(bytes(SEGMENT))
        site.give_to_server(segment)
        done = run_tool(site, [tool, "-x", str(number), "-D", data], seconds=60)
        assert done.returncode == 0, done.stderr
        with embedded.lease_postgres(home, durable=False) as lease:
            engine = create_engine(lease.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                findings = list(wraparound(CheckContext(settings, read_only(connection))))
        assert {finding.level for finding in findings} == ({level} if level else set())
        assert {finding.evidence["database"] for finding in findings} >= ({"parley"} if level else set())
