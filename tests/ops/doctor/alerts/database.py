"""Faults of the schema, the indexes, the disk and the server."""

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from app.ids import new_id
from app.services.storage_room import free_bytes
from ops.doctor.checks import migrations, statements, storage
from ops.upgrades.pending import Revision
from ops.upgrades.statement_locks import ACCESS_EXCLUSIVE, LockDuration, TableLock
from tests.disks import fill, mount_small_disk
from tests.factories import insert_user
from tests.ops.doctor.alerts.site import Site, fault
from tests.ops.doctor.conftest import DoctorInstall
from tests.ops.doctor.test_stats import grow

Steps = Generator[DoctorInstall | None, None, None]
MEGABYTE = 1 << 20


def _by_statements(check: str, *made: str, before: tuple[str, ...] = ()) -> None:
    """Declare a fault that these statements of the owner make."""

    @fault(check)
    def make(site: Site) -> Steps:
        install = site.make()
        install.run(*before)
        yield install
        install.run(*made)
        yield site.make()


_by_statements("migrations.current", "DELETE FROM alembic_version")
_by_statements("migrations.drift", "DROP TABLE legal_holds")
_by_statements("indexes.expected", "DROP INDEX ix_turns_conversation")
_by_statements("tables.constraints", "ALTER TABLE turns DISABLE TRIGGER ALL")
_by_statements(
    "tables.sequences",
    "SELECT setval(pg_get_serial_sequence('things', 'id'), 30000)",
    before=("CREATE TABLE things (id smallserial)",),
)
_by_statements(
    "indexes.collations",
    "UPDATE pg_collation SET collversion = '0.1' WHERE oid = 'things_collation'::regcollation",
    before=(
        "DO $$ BEGIN EXECUTE (SELECT format('CREATE COLLATION things_collation FROM pg_catalog.%I', collname)"
        " FROM pg_collation WHERE collprovider <> 'd' AND pg_collation_actual_version(oid) IS NOT NULL"
        " ORDER BY collname LIMIT 1); END $$",
        "CREATE TABLE things (t text COLLATE things_collation)",
        "CREATE INDEX ON things (t)",
    ),
)
_COMPARE = (
    "CREATE OR REPLACE FUNCTION compare(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp({})'"
)
_by_statements(
    "indexes.corruption",  # as with a new version of the C library
    _COMPARE.format("b, a"),
    before=(
        "CREATE EXTENSION IF NOT EXISTS amcheck",
        _COMPARE.format("a, b"),
        "CREATE OPERATOR CLASS mine FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >,"
        " FUNCTION 1 compare(int, int)",
        "CREATE TABLE things (id int)",
        "INSERT INTO things SELECT n FROM generate_series(1, 2000) AS n",
        "CREATE INDEX things_id ON things (id mine)",
    ),
)


@fault("indexes.invalid")
def failed_build(site: Site) -> Steps:
    install = site.make()
    install.run("CREATE TABLE things AS SELECT 1 AS a FROM generate_series(1, 2)")
    yield install
    with pytest.raises(Exception, match="duplicated"):
        install.run("CREATE UNIQUE INDEX CONCURRENTLY once ON things (a)")
    yield None


@fault("migrations.next")
def costly_migration(site: Site) -> Steps:
    """Make a pending revision rewrite a table with rows, of which one is many here."""
    install = site.make()
    insert_user(install.flask_app, site.engine(install))
    install.run("ANALYZE users")
    yield install
    lock = TableLock("users", ACCESS_EXCLUSIVE, LockDuration.REWRITE)
    site.patch.setattr(migrations, "MANY_ROWS", 1)
    site.patch.setattr(migrations, "pending_revisions", lambda _: [Revision("9999", "Something", (lock,), ())])
    yield None


@fault("storage.disk")
def full_disk(site: Site) -> Steps:
    """Fill a small disk; the limits in bytes are scaled down with it."""
    disk = site.stack.enter_context(mount_small_disk(site.folder / "disk", megabytes=16))
    for name, megabytes in {"ENOUGH_BYTES": 12, "LOW_BYTES": 4, "VERY_LOW_BYTES": 2}.items():
        site.patch.setattr(storage, name, megabytes * MEGABYTE)
    yield site.make(server={"home": disk})
    fill(disk)
    yield None


@fault("storage.room")
def no_room(site: Site) -> Steps:
    free = free_bytes(site.folder)
    assert free is not None
    limits: dict[str, Any] = {"url": site.url, "folder": site.folder}
    yield site.make(database={**limits, "min_free_bytes": 1})
    yield site.make(database={**limits, "min_free_bytes": 2 * free})


@fault("storage.growth")
def fast_growth(site: Site) -> Steps:
    install = site.make()
    yield install
    for name, value in {"SMALL": 0, "SOON": timedelta(days=40_000), "VERY_SOON": timedelta(days=40_000)}.items():
        site.patch.setattr(storage, name, value)
    grow(install, timedelta(days=2))
    yield None


@fault("storage.durable")
def asynchronous_commit(site: Site) -> Steps:
    install = site.own_server()
    yield install
    install.run(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$"
    )
    yield site.own_server()
    install.run("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET synchronous_commit', current_database()); END $$")


@fault("statements.slow")
def slow_statement(site: Site) -> Steps:
    install = site.make()
    yield install
    site.patch.setattr(statements, "MIN_CALLS", 2)
    site.patch.setattr(statements, "VERY_SLOW_MS", 100.0)
    for _ in range(2):
        install.run("SELECT /* test.sleeps */ pg_sleep(0.11)")
    yield None


USED_IDS = """
SET allow_system_table_mods = on;
UPDATE pg_database SET datfrozenxid = mod(pg_current_xact_id()::text::bigint + 2494967296, 4294967296)::text::xid
 WHERE datname = current_database()"""
UNUSED_IDS = """
SET allow_system_table_mods = on;
UPDATE pg_database
   SET datfrozenxid = (SELECT min(relfrozenxid::text::bigint) FROM pg_class WHERE relfrozenxid <> '0')::text::xid
 WHERE datname = current_database()"""


@fault("tables.wraparound")
def used_transaction_ids(site: Site) -> Steps:
    """Set the age to 1.8 of the 2.1 billion ids: to use so many takes days."""
    install = site.own_server()
    yield install
    install.run(USED_IDS)
    yield None
    install.run(UNUSED_IDS)


@fault("erasures.reappeared")
def reappeared_user(site: Site) -> Steps:
    install, user_id = site.make(), str(new_id())
    add = (
        "INSERT INTO users (id, email, email_key, name, password_hash)"
        f" VALUES ('{user_id}', 'a@b.c', 'a@b.c', 'a', 'x')"
    )
    install.run(add)
    assert install.call("user", "erase", user_id, "--reason", "asked for it", "--yes").exit_code == 0
    yield install
    install.run(add)
    yield None
