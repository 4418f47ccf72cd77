"""Checks of the schema, and the reported locks of migrations compared with the actual ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

from app.services.health import expected_revision
from ops.doctor.checks import migrations
from ops.levels import Level
from ops.upgrades.pending import Revision, known_revisions, pending_revisions, split_statements
from ops.upgrades.statement_locks import (
    ACCESS_EXCLUSIVE,
    ORDER,
    SHARE_ROW_EXCLUSIVE,
    LockDuration,
    TableLock,
    UnknownStatement,
    statement_locks,
)
from tests.database import fresh_database, migrate
from tests.ops.doctor.conftest import DoctorInstall, open_install

MIGRATIONS = str(Path(__file__).parents[3] / "migrations")


@pytest.fixture
def empty(postgres: str, url: str, settings: object) -> Iterator[DoctorInstall]:
    """Create an installation on a database that was never migrated."""
    with (
        fresh_database(postgres, f"{url.rpartition('/')[2]}_empty") as bare,
        open_install(bare, settings, {}) as install,
    ):  # type: ignore[arg-type]
        yield install


@contextmanager
def at(install: DoctorInstall, revision: str) -> Iterator[None]:
    with install.flask_app.app_context():
        migrate(revision)
        yield


def test_empty_database_is_critical(empty: DoctorInstall) -> None:
    (finding,) = empty.run_check("migrations.current").findings
    assert finding.level is Level.CRITICAL
    assert "is empty" in finding.message
    (finding,) = empty.run_check("migrations.next").findings
    assert finding.level is Level.WARNING
    assert "lock no existing table" in finding.message
    assert list(finding.evidence) == known_revisions_of(empty)
    assert empty.run_check("migrations.drift").level is Level.UNKNOWN


def test_pending_migrations_are_reported_with_locks_and_rows(empty: DoctorInstall) -> None:
    with at(empty, "0007"):
        empty.run("ANALYZE")
        (finding,) = empty.run_check("migrations.current").findings
        assert finding.evidence == {"database": "0007", "code": expected_revision()}
        found = {finding.message.split()[1]: finding for finding in empty.run_check("migrations.next").findings}
        evidence = found["0008"].evidence
        assert evidence["conversations"].startswith("SHARE ROW EXCLUSIVE, a moment, 0 rows")
        assert found["0008"].level is Level.WARNING
        result = empty.call("doctor", "--only", "migrations")
        assert result.exit_code == 2
        assert "Migration 0008" in result.stdout
        assert "conversations" in result.stdout


def test_newer_database_is_a_warning(install: DoctorInstall) -> None:
    install.run("UPDATE alembic_version SET version_num = '9999'")
    (finding,) = install.run_check("migrations.current").findings
    assert finding.level is Level.WARNING
    assert "the code is older" in finding.message
    assert install.run_check("migrations.next").level is Level.UNKNOWN
    assert install.run_check("migrations.drift").level is Level.UNKNOWN


def test_several_revisions_are_critical(install: DoctorInstall) -> None:
    install.run("INSERT INTO alembic_version VALUES ('0003')")
    (finding,) = install.run_check("migrations.current").findings
    assert finding.level is Level.CRITICAL
    assert "several revisions" in finding.message
    for check in ("migrations.next", "migrations.drift", "indexes.expected"):
        result = install.run_check(check)
        assert result.level is Level.UNKNOWN
        assert "upgrade" not in str(result.remedy) or check == "indexes.expected"
    install.run(str(finding.sql))
    assert install.run_check("migrations.current").level is Level.OK


def test_tables_without_a_revision_must_not_be_upgraded(install: DoctorInstall) -> None:
    install.run("DELETE FROM alembic_version")
    (finding,) = install.run_check("migrations.current").findings
    assert "Do not upgrade" in str(finding.remedy)
    assert install.run_check("migrations.next").level is Level.UNKNOWN
    install.run(f"INSERT INTO alembic_version VALUES ('{expected_revision()}')")
    assert install.run_check("migrations.current").level is Level.OK


def test_tables_outside_the_search_path_are_found(
    install: DoctorInstall, make_install: Callable[..., DoctorInstall]
) -> None:
    lost = make_install(database={"url": install.url, "search_path": "elsewhere"})
    (finding,) = lost.run_check("migrations.current").findings
    assert "in the schema public, which is not in DB_SEARCH_PATH" in finding.message
    path = str(finding.remedy).partition("DB_SEARCH_PATH=")[2].partition(";")[0]
    found = make_install(database={"url": install.url, "search_path": path})
    assert found.run_check("migrations.current").level is Level.OK


def test_table_in_an_earlier_schema_is_found(
    install: DoctorInstall, make_install: Callable[..., DoctorInstall]
) -> None:
    install.run("CREATE SCHEMA first", "CREATE TABLE first.turns (LIKE public.turns INCLUDING ALL)")
    misled = make_install(database={"url": install.url, "search_path": "first, public"})
    finding = misled.run_check("migrations.drift").findings[0]
    assert finding.level is Level.CRITICAL
    assert finding.evidence["found"] == ["first.turns"]
    for check in ("indexes.expected", "tables.constraints"):
        assert misled.run_check(check).level is Level.UNKNOWN
    assert len(misled.run_check("migrations.drift").findings) == 1  # no advice to reference the other copy
    install.run(str(finding.sql))
    assert misled.run_check("indexes.expected").level is Level.OK


def test_unexpected_triggers_and_rules_are_found(install: DoctorInstall) -> None:
    install.run(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        'CREATE TRIGGER "by hand" BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION swallow()',
        "CREATE RULE keep AS ON DELETE TO turns DO INSTEAD NOTHING",
        "CREATE TABLE theirs (a int)",
        "CREATE TRIGGER t BEFORE INSERT ON theirs FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    one, two = install.run_check("migrations.drift").findings
    assert 'the trigger "by hand"' in one.message
    assert "the rule keep" in two.message
    install.run(str(one.sql), str(two.sql))
    assert install.run_check("migrations.drift").level is Level.OK


def test_changes_by_hand_are_found(install: DoctorInstall) -> None:
    for check in ("current", "next", "drift"):
        result = install.run_check(f"migrations.{check}")
        assert (result.level, result.findings) == (Level.OK, ())
    install.run(
        "ALTER TABLE users ADD COLUMN shoe_size int",
        "ALTER TABLE projects DROP COLUMN provider",
        "ALTER TABLE users ALTER COLUMN name TYPE text",
        "ALTER TABLE turns ALTER COLUMN provider DROP NOT NULL",
        "DROP TABLE legal_holds",
        "CREATE TABLE other_application (id int)",
        "CREATE INDEX by_hand ON users (name)",
    )
    levels = {finding.message: finding.level for finding in install.run_check("migrations.drift").findings}
    assert levels == {
        "The column users.shoe_size is in no model.": Level.WARNING,
        "The column projects.provider is missing.": Level.CRITICAL,
        "The type of users.name differs from the model.": Level.WARNING,
        "The nullability of turns.provider differs from the model.": Level.WARNING,
        "The table legal_holds is missing.": Level.CRITICAL,
    }


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("CREATE TABLE a (b uuid REFERENCES users (id), FOREIGN KEY(c) REFERENCES public.turns (id))",
         [TableLock("users", SHARE_ROW_EXCLUSIVE), TableLock("turns", SHARE_ROW_EXCLUSIVE)]),
        ("CREATE TABLE a (id int PRIMARY KEY, parent int REFERENCES a (id))", []),
        ('CREATE INDEX i ON "users" (name)', [TableLock("users", "SHARE", LockDuration.BUILD)]),
        ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON users (name)",
         [TableLock("users", "SHARE UPDATE EXCLUSIVE", LockDuration.BUILD)]),
        ("DROP INDEX CONCURRENTLY ix_a", [TableLock("index:ix_a", "SHARE UPDATE EXCLUSIVE")]),
        ("DROP INDEX ix_a", [TableLock("index:ix_a", ACCESS_EXCLUSIVE)]),
        ("ALTER INDEX ix_a RENAME TO ix_b", []),
        ("ALTER TABLE users ADD COLUMN a int", [TableLock("users", ACCESS_EXCLUSIVE)]),
        ("ALTER TABLE users ADD COLUMN a uuid DEFAULT gen_random_uuid() NOT NULL",
         [TableLock("users", ACCESS_EXCLUSIVE, LockDuration.REWRITE)]),
        ("ALTER TABLE users ALTER COLUMN name TYPE text", [TableLock("users", ACCESS_EXCLUSIVE, LockDuration.REWRITE)]),
        ("ALTER TABLE users ALTER COLUMN name SET NOT NULL", [TableLock("users", ACCESS_EXCLUSIVE, LockDuration.SCAN)]),
        ("ALTER TABLE users ADD CONSTRAINT c CHECK (name <> '')",
         [TableLock("users", ACCESS_EXCLUSIVE, LockDuration.SCAN)]),
        ("ALTER TABLE users ADD CONSTRAINT c CHECK (name <> '') NOT VALID", [TableLock("users", ACCESS_EXCLUSIVE)]),
        ("ALTER TABLE users VALIDATE CONSTRAINT c", [TableLock("users", "SHARE UPDATE EXCLUSIVE", LockDuration.SCAN)]),
        ("ALTER TABLE turns ADD CONSTRAINT f FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE",
         [TableLock("turns", SHARE_ROW_EXCLUSIVE, LockDuration.SCAN), TableLock("users", SHARE_ROW_EXCLUSIVE)]),
        ("ALTER TABLE users ADD CONSTRAINT u UNIQUE (name)",
         [TableLock("users", ACCESS_EXCLUSIVE, LockDuration.BUILD)]),
        ("ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX i", [TableLock("users", ACCESS_EXCLUSIVE)]),
        ("UPDATE users SET name = 'x'", [TableLock("users", "ROW EXCLUSIVE", LockDuration.ROWS)]),
        ("INSERT INTO alembic_version (version_num) VALUES ('1')",
         [TableLock("alembic_version", "ROW EXCLUSIVE", LockDuration.ROWS)]),
        ("TRUNCATE users", [TableLock("users", ACCESS_EXCLUSIVE)]),
        ("DROP TRIGGER count_stored_insert ON tasks", [TableLock("tasks", ACCESS_EXCLUSIVE)]),
        ("COMMENT ON COLUMN public.users.name IS 'x'", [TableLock("users", "SHARE UPDATE EXCLUSIVE")]),
        ("SET lock_timeout = '5s'", []),
        ("COMMIT", []),
    ],
)  # fmt: skip
def test_locks_of_a_statement(statement: str, expected: list[TableLock]) -> None:
    assert statement_locks(statement) == expected


@pytest.mark.parametrize("statement", ["CLUSTER users USING i", "DO $$ BEGIN END $$", "CALL f()"])
def test_unknown_statement_is_refused(statement: str) -> None:
    with pytest.raises(UnknownStatement):
        statement_locks(statement)


def test_quoted_semicolon_does_not_end_a_statement() -> None:
    sql = "-- a comment; of a line\nSELECT 'a;b', '''; x';\n\nDO $x$ BEGIN; END $x$;\nCOMMIT;"
    assert list(split_statements(sql)) == ["SELECT 'a;b', '''; x'", "DO $x$ BEGIN; END $x$", "COMMIT"]


def test_every_migration_has_known_locks(install: DoctorInstall) -> None:
    with install.flask_app.app_context():
        assert [(step.id, step.unknown) for step in pending_revisions(None) if step.unknown] == []


def test_reported_locks_are_the_actual_ones(empty: DoctorInstall) -> None:
    """Run every migration and read its locks at the end of its transaction, before the commit.

    Migrations that build CONCURRENTLY have no transaction and are skipped.
    """
    revisions = known_revisions_of(empty)
    engine = create_engine(empty.url)
    examined = 0
    for previous, revision in zip([None, *revisions], revisions, strict=False):
        source = Path(MIGRATIONS, "versions").glob(f"{revision}_*.py").__next__()
        if "autocommit_block" in source.read_text():
            with at(empty, revision):
                continue
        namespace: dict[str, Callable[[], None]] = {}
        exec(compile(source.read_text(), str(source), "exec"), namespace)
        with engine.connect() as connection:
            tables = connection.execute(text("SELECT oid, relname FROM pg_class WHERE relkind = 'r'"))
            existing = {row.oid: row.relname for row in tables}  # a migration may rename them
            with Operations.context(MigrationContext.configure(connection)):
                namespace["upgrade"]()
            actual = strongest(
                (existing[oid], mode)
                for oid, mode in connection.execute(text(HELD))
                if oid in existing and not existing[oid].startswith("pg_")
            )
            connection.rollback()
        with empty.flask_app.app_context():
            step = pending_revisions(previous)[0]
        reported = strongest((lock.table, lock.mode) for lock in step.locks if not lock.table.startswith("index:"))
        assert {name: mode for name, mode in reported.items() if name in existing.values()} == actual, (
            previous,
            revision,
        )
        examined += 1
        with at(empty, revision):
            pass
    engine.dispose()
    assert examined > 3


# Without the locks of reads and of naming a table.
HELD = """
SELECT c.oid, upper(btrim(regexp_replace(regexp_replace(l.mode, 'Lock$', ''), '([A-Z])', ' \\1', 'g')))
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
 WHERE l.pid = pg_backend_pid() AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') AND c.relkind = 'r'"""


def known_revisions_of(install: DoctorInstall) -> list[str]:
    with install.flask_app.app_context():
        return known_revisions()


def strongest(found: Iterator[tuple[str, str]]) -> dict[str, str]:
    result: dict[str, str] = {}
    for name, mode in found:
        result[name] = max(result.get(name, ORDER[0]), mode, key=ORDER.index)
    return result


def test_long_write_lock_is_critical(empty: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "MANY_ROWS", 1)
    steps = [
        Revision("0042", "Something", (TableLock("users", ACCESS_EXCLUSIVE, LockDuration.REWRITE),), ("CALL f()",))
    ]
    monkeypatch.setattr(migrations, "pending_revisions", lambda _: steps)
    with at(empty, "head"):
        empty.run(
            "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), i || '@x.y', 'a', 'x' "
            "FROM generate_series(1, 5) i",
            "ANALYZE users",
        )
        (finding,) = empty.run_check("migrations.next").findings
    assert finding.level is Level.CRITICAL
    assert "blocks writes to users for long" in finding.message
    assert "unknown: CALL f()" in finding.message
    assert "5 rows" in finding.evidence["users"]
