"""Real damage: of pages on disk, of the sort order, and of entries."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.config import Settings
from ops.errors import UnknownState
from ops.indexes.checks import corruption as corruption_check
from ops.indexes.checks.corruption import corruption
from ops.indexes.snapshot import read_indexes
from ops.levels import Level
from tests.database import fresh_database
from tests.ops.indexes.conftest import IndexDatabase, findings_about, open_database, open_transaction
from tests.ops.installation import run_on

PAGE = 8192
TABLE = (
    "CREATE TABLE things (id int, a text) WITH (autovacuum_enabled = off)",
    "INSERT INTO things SELECT n, md5(n::text) FROM generate_series(1, 20000) AS n",
    "CREATE INDEX things_id ON things (id)",
    "CREATE INDEX things_a ON things (a)",
)


@contextmanager
def damaged(
    database: IndexDatabase, postgres: str, settings: Settings, relation: str, page: int, *bad: tuple[int, bytes]
) -> Iterator[IndexDatabase]:
    """Copy the database file by file, and replace bytes at an offset of one page of `relation`.

    PostgreSQL has nothing of the copy in its memory yet, so it reads what is on the disk.
    """
    folder, name = Path(database.value("SHOW data_directory")), database.value("SELECT current_database()")
    database.owner.close()
    database.context.connection.close()
    with (
        fresh_database(postgres, f"{name}_copy", template=name, options="STRATEGY FILE_COPY") as url,
        open_database(url, settings) as copy,
    ):
        try:
            file = folder / copy.value("SELECT pg_relation_filepath(%(name)s)", name=relation)
            with file.open("r+b") as stream:
                for offset, data in bad:
                    stream.seek(page * PAGE + offset)
                    stream.write(data)
        except PermissionError:
            pytest.skip("the server's files belong to another system user")
        yield copy


def test_intact_indexes_have_no_finding(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE)
    assert list(corruption(shared_database.context)) == []


def test_torn_page_is_found_and_repaired_by_a_rebuild(
    database: IndexDatabase, postgres: str, settings: Settings
) -> None:
    database.run(*TABLE)
    with damaged(database, postgres, settings, "things_a", 5, (4000, bytes(1000))) as copy:
        (finding,) = corruption(copy.context)
        assert finding.level is Level.CRITICAL
        assert finding.evidence["index"] == "public.things_a"
        assert "ACCESS SHARE" in finding.evidence["lock"]
        copy.run(str(finding.sql))
        assert list(corruption(copy.context)) == []


def test_damage_with_a_valid_checksum_is_found(database: IndexDatabase, postgres: str, settings: Settings) -> None:
    """The line pointers of a leaf are swapped, so its entries are out of order."""
    database.run(*TABLE, "CREATE EXTENSION IF NOT EXISTS pageinspect")
    page = bytes(database.value("SELECT get_raw_page('things_id', 3)"))
    tenth, eleventh = (24 + 4 * number for number in (9, 10))  # behind the page's header, four bytes each
    swapped = page[eleventh : eleventh + 4] + page[tenth : tenth + 4]
    with damaged(database, postgres, settings, "things_id", 3, (tenth, swapped)) as copy:
        run_on(copy.context.connection, "SET ignore_checksum_failure = on")
        (finding,) = corruption(copy.context)
        assert "order" in finding.evidence["error"]


def test_missing_file_is_found(database: IndexDatabase, postgres: str, settings: Settings) -> None:
    database.run(*TABLE)
    with damaged(database, postgres, settings, "things_a", 0) as copy:
        path = Path(copy.value("SHOW data_directory")) / copy.value("SELECT pg_relation_filepath('things_a')")
        path.unlink()
        findings = findings_about(corruption(copy.context), "things_a")
        assert [finding.level for finding in findings] == [Level.CRITICAL]


def test_damaged_table_is_reported_as_such(database: IndexDatabase, postgres: str, settings: Settings) -> None:
    database.run(*TABLE, "DROP INDEX things_a")
    with damaged(database, postgres, settings, "things", 5, (4000, bytes(1000))) as copy:
        (finding,) = corruption(copy.context)
        assert finding.message.startswith("public.things cannot be read completely")
        assert finding.sql is None


def test_changed_sort_order_is_found(database: IndexDatabase) -> None:
    """As with a new version of the C library."""
    database.run(
        "CREATE FUNCTION compare(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp(a, b)'",
        "CREATE OPERATOR CLASS mine FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >,"
        " FUNCTION 1 compare(int, int)",
        "CREATE TABLE things (id int)",
        "INSERT INTO things SELECT n FROM generate_series(1, 2000) AS n",
        "CREATE INDEX things_id ON things (id mine)",
    )
    assert list(corruption(database.context)) == []
    database.run(
        "CREATE OR REPLACE FUNCTION compare(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS"
        " 'SELECT btint4cmp(b, a)'"
    )
    # A session caches the comparison function; a check always has a new session.
    database.context.open_connection = database.open()
    (finding,) = corruption(database.context)
    assert "order" in finding.evidence["error"]


def test_missing_index_entries_are_found(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE, "UPDATE pg_index SET indisready = false WHERE indexrelid = 'things_id'::regclass")
    writer = shared_database.open()
    run_on(writer, "INSERT INTO things VALUES (-1, '')")
    shared_database.run("UPDATE pg_index SET indisready = true WHERE indexrelid = 'things_id'::regclass")
    (finding,) = corruption(shared_database.context)
    assert finding.evidence["index"] == "public.things_id"
    assert "lacks matching index tuple" in finding.evidence["error"]
    shared_database.run(str(finding.sql))
    assert list(corruption(shared_database.context)) == []


def test_check_does_not_block_writes(shared_database: IndexDatabase) -> None:
    shared_database.run(*TABLE)
    run_on(shared_database.context.connection, "SET lock_timeout = '50ms'")
    with open_transaction(shared_database, "INSERT INTO things VALUES (-1, '')"):
        assert list(corruption(shared_database.context)) == []
        with pytest.raises(Exception, match="lock timeout"):  # bt_index_parent_check, which the check does not use
            run_on(shared_database.context.connection, "SELECT bt_index_parent_check('things_id')")
    assert "bt_index_parent_check(" not in Path(str(corruption_check.__file__)).read_text()


def test_missing_extension_is_unknown(database: IndexDatabase) -> None:
    database.run(*TABLE, "DROP EXTENSION amcheck")
    with pytest.raises(UnknownState, match="amcheck is not installed") as raised:
        list(corruption(database.context))
    assert "CREATE EXTENSION amcheck" in str(raised.value.remedy)


def test_missing_privilege_is_unknown(database: IndexDatabase, drop_privileges: object) -> None:
    database.run(*TABLE)
    drop_privileges()  # type: ignore[operator]
    with pytest.raises(UnknownState, match="may not call amcheck") as raised:
        list(corruption(database.context))
    assert "GRANT EXECUTE" in str(raised.value.remedy)


def test_unchecked_indexes_are_reported(shared_database: IndexDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    shared_database.run(*TABLE)
    monkeypatch.setattr(time, "monotonic", iter(range(10**6)).__next__)
    findings = [
        found.finding
        for found in corruption_check.index_findings(
            shared_database.context, read_indexes(shared_database.context), seconds=2
        )
    ]
    (finding,) = findings
    assert finding.level is Level.UNKNOWN
    assert "public.things_a" in finding.evidence["indexes"]
