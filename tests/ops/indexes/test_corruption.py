"""Damage, done for real: to pages on disk, to the order of text, to what an index has of its table."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.config import Settings
from ops.checks.indexes import corruption as corruption_check
from ops.checks.indexes.corruption import corruption
from ops.findings import CannotJudge
from ops.levels import Level
from tests.ops.indexes.conftest import House, about, fresh, holding, opened, run_on

PAGE = 8192
TABLE = (
    "CREATE TABLE things (id int, a text) WITH (autovacuum_enabled = off)",
    "INSERT INTO things SELECT n, md5(n::text) FROM generate_series(1, 20000) AS n",
    "CREATE INDEX things_id ON things (id)",
    "CREATE INDEX things_a ON things (a)",
)


@contextmanager
def damaged(
    house: House, postgres: str, settings: Settings, relation: str, page: int, *bad: tuple[int, bytes]
) -> Iterator[House]:
    """A copy of the database, file by file, with bytes of one page of `relation` replaced: at an offset, so many.

    PostgreSQL has nothing of the copy in its memory yet, so it reads what is on the disk.
    """
    folder, name = Path(house.value("SHOW data_directory")), house.value("SELECT current_database()")
    house.connection.close()
    house.probe.connection.close()
    with fresh(postgres, f"{name}_copy", f'TEMPLATE "{name}" STRATEGY FILE_COPY') as url, opened(url, settings) as copy:
        try:
            file = folder / copy.value("SELECT pg_relation_filepath(%(name)s)", name=relation)
            with file.open("r+b") as stream:
                for offset, data in bad:
                    stream.seek(page * PAGE + offset)
                    stream.write(data)
        except PermissionError:
            pytest.skip("the server's files are somebody else's")
        yield copy


def test_whole_indexes_are_whole(room: House) -> None:
    room.run(*TABLE)
    assert list(corruption(room.probe)) == []


def test_a_torn_page_is_found_and_a_rebuild_mends_it(house: House, postgres: str, settings: Settings) -> None:
    house.run(*TABLE)
    with damaged(house, postgres, settings, "things_a", 5, (4000, bytes(1000))) as copy:
        (finding,) = corruption(copy.probe)
        assert finding.level is Level.CRITICAL
        assert finding.evidence["index"] == "public.things_a"
        assert "ACCESS SHARE" in finding.evidence["lock"]
        copy.run(str(finding.sql))
        assert list(corruption(copy.probe)) == []


def test_a_page_that_only_amcheck_sees_through_is_found(house: House, postgres: str, settings: Settings) -> None:
    """Checksums aside: the line pointers of a leaf are swapped, so its entries are out of order."""
    house.run(*TABLE, "CREATE EXTENSION IF NOT EXISTS pageinspect")
    page = bytes(house.value("SELECT get_raw_page('things_id', 3)"))
    tenth, eleventh = (24 + 4 * number for number in (9, 10))  # behind the page's header, four bytes each
    swapped = page[eleventh : eleventh + 4] + page[tenth : tenth + 4]
    with damaged(house, postgres, settings, "things_id", 3, (tenth, swapped)) as copy:
        run_on(copy.probe.connection, "SET ignore_checksum_failure = on")
        (finding,) = corruption(copy.probe)
        assert "order" in finding.evidence["error"]


def test_a_file_that_is_gone_is_found(house: House, postgres: str, settings: Settings) -> None:
    house.run(*TABLE)
    with damaged(house, postgres, settings, "things_a", 0) as copy:
        path = Path(copy.value("SHOW data_directory")) / copy.value("SELECT pg_relation_filepath('things_a')")
        path.unlink()
        findings = about(corruption(copy.probe), "things_a")
        assert [finding.level for finding in findings] == [Level.CRITICAL]


def test_a_damaged_table_is_not_blamed_on_its_index(house: House, postgres: str, settings: Settings) -> None:
    house.run(*TABLE, "DROP INDEX things_a")
    with damaged(house, postgres, settings, "things", 5, (4000, bytes(1000))) as copy:
        (finding,) = corruption(copy.probe)
        assert finding.what.startswith("public.things cannot be read whole")
        assert finding.sql is None


def test_an_order_that_changed_under_an_index_is_found(house: House) -> None:
    """As a new version of the C library does to text."""
    house.run(
        "CREATE FUNCTION compare(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp(a, b)'",
        "CREATE OPERATOR CLASS mine FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >,"
        " FUNCTION 1 compare(int, int)",
        "CREATE TABLE things (id int)",
        "INSERT INTO things SELECT n FROM generate_series(1, 2000) AS n",
        "CREATE INDEX things_id ON things (id mine)",
    )
    assert list(corruption(house.probe)) == []
    house.run(
        "CREATE OR REPLACE FUNCTION compare(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS"
        " 'SELECT btint4cmp(b, a)'"
    )
    # A session keeps what it has compiled; the doctor's is always a new one.
    house.probe.opened = house.open()
    (finding,) = corruption(house.probe)
    assert "order" in finding.evidence["error"]


def test_rows_that_an_index_lacks_are_found(room: House) -> None:
    room.run(*TABLE, "UPDATE pg_index SET indisready = false WHERE indexrelid = 'things_id'::regclass")
    writer = room.open()
    run_on(writer, "INSERT INTO things VALUES (-1, '')")
    room.run("UPDATE pg_index SET indisready = true WHERE indexrelid = 'things_id'::regclass")
    (finding,) = corruption(room.probe)
    assert finding.evidence["index"] == "public.things_id"
    assert "lacks matching index tuple" in finding.evidence["error"]
    room.run(str(finding.sql))
    assert list(corruption(room.probe)) == []


def test_it_waits_for_no_writer(room: House) -> None:
    room.run(*TABLE)
    run_on(room.probe.connection, "SET lock_timeout = '50ms'")
    with holding(room, "INSERT INTO things VALUES (-1, '')"):
        assert list(corruption(room.probe)) == []
        with pytest.raises(Exception, match="lock timeout"):  # what the check that is never called would have done
            run_on(room.probe.connection, "SELECT bt_index_parent_check('things_id')")
    assert "bt_index_parent_check(" not in Path(str(corruption_check.__file__)).read_text()


def test_without_the_extension_it_cannot_judge(house: House) -> None:
    house.run(*TABLE, "DROP EXTENSION amcheck")
    with pytest.raises(CannotJudge, match="amcheck is not installed") as raised:
        list(corruption(house.probe))
    assert "CREATE EXTENSION amcheck" in str(raised.value.remedy)


def test_without_the_right_it_cannot_judge(house: House, weak: object) -> None:
    house.run(*TABLE)
    weak()  # type: ignore[operator]
    with pytest.raises(CannotJudge, match="may not call amcheck") as raised:
        list(corruption(house.probe))
    assert "GRANT EXECUTE" in str(raised.value.remedy)


def test_what_time_did_not_suffice_for_is_named(room: House, monkeypatch: pytest.MonkeyPatch) -> None:
    room.run(*TABLE)
    monkeypatch.setattr(time, "monotonic", iter(range(10**6)).__next__)
    findings = [
        case.finding for case in corruption_check.cases(room.probe, corruption_check.read(room.probe), seconds=2)
    ]
    (finding,) = findings
    assert finding.level is Level.UNKNOWN
    assert "public.things_a" in finding.evidence["indexes"]
