"""The schema behind, ahead, changed by hand; and what the next upgrade would lock, against what it really locks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import flask_migrate
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

from app.services.health import expected_revision
from ops.checks import migrations
from ops.levels import Level
from ops.upgrades.locks import ACCESS_EXCLUSIVE, ORDER, SHARE_ROW_EXCLUSIVE, Lock, UnknownStatement, Work, locks
from ops.upgrades.pending import known_revisions, pending, statements
from tests.ops.doctor.conftest import Ward, admitted
from tests.ops.indexes.conftest import fresh

MIGRATIONS = str(Path(__file__).parents[3] / "migrations")


@pytest.fixture
def empty(postgres: str, url: str, settings: object) -> Iterator[Ward]:
    """An installation on a database that was never migrated."""
    with fresh(postgres, f"{url.rpartition('/')[2]}_empty") as bare, admitted(bare, settings, {}) as ward:  # type: ignore[arg-type]
        yield ward


@contextmanager
def at(ward: Ward, revision: str) -> Iterator[None]:
    with ward.flask_app.app_context():
        flask_migrate.upgrade(directory=MIGRATIONS, revision=revision)
        yield


def test_an_empty_database(empty: Ward) -> None:
    (finding,) = empty.ask("migrations.current").findings
    assert finding.level is Level.CRITICAL
    assert "is empty" in finding.what
    (finding,) = empty.ask("migrations.next").findings
    assert finding.level is Level.WARNING
    assert "lock no table that is there" in finding.what
    assert list(finding.evidence) == known_revisions_of(empty)
    assert empty.ask("migrations.drift").level is Level.UNKNOWN


def test_a_database_that_is_behind_says_what_the_upgrade_would_lock_and_on_how_many_rows(empty: Ward) -> None:
    with at(empty, "0007"):
        empty.run("ANALYZE")
        (finding,) = empty.ask("migrations.current").findings
        assert finding.evidence == {"database": "0007", "code": expected_revision()}
        found = {finding.what.split()[1]: finding for finding in empty.ask("migrations.next").findings}
        evidence = found["0008"].evidence
        assert evidence["conversations"].startswith("SHARE ROW EXCLUSIVE, a moment, 0 rows")
        assert found["0008"].level is Level.WARNING
        result = empty.call("doctor", "--only", "migrations")
        assert result.exit_code == 2
        assert "Migration 0008" in result.stdout
        assert "conversations" in result.stdout


def test_a_database_that_is_ahead(ward: Ward) -> None:
    ward.run("UPDATE alembic_version SET version_num = '9999'")
    (finding,) = ward.ask("migrations.current").findings
    assert finding.level is Level.WARNING
    assert "the code is older" in finding.what
    assert ward.ask("migrations.next").level is Level.UNKNOWN
    assert ward.ask("migrations.drift").level is Level.UNKNOWN


def test_several_revisions_are_one_too_many(ward: Ward) -> None:
    ward.run("INSERT INTO alembic_version VALUES ('0003')")
    (finding,) = ward.ask("migrations.current").findings
    assert finding.level is Level.CRITICAL
    assert "several revisions" in finding.what
    for check in ("migrations.next", "migrations.drift", "indexes.expected"):
        answer = ward.ask(check)
        assert answer.level is Level.UNKNOWN
        assert "upgrade" not in str(answer.remedy) or check == "indexes.expected"
    ward.run(str(finding.sql))
    assert ward.ask("migrations.current").level is Level.OK


def test_tables_without_their_revision_are_no_empty_database(ward: Ward) -> None:
    ward.run("DELETE FROM alembic_version")
    (finding,) = ward.ask("migrations.current").findings
    assert "Never upgrade" in str(finding.remedy)
    assert ward.ask("migrations.next").level is Level.UNKNOWN
    ward.run(f"INSERT INTO alembic_version VALUES ('{expected_revision()}')")
    assert ward.ask("migrations.current").level is Level.OK


def test_tables_where_the_account_does_not_look(ward: Ward, admit: Callable[..., Ward]) -> None:
    name = ward.url.rpartition("/")[2]
    ward.run(f'ALTER DATABASE "{name}" SET search_path = elsewhere')
    lost = admit()
    (finding,) = lost.ask("migrations.current").findings
    assert "in the schema public, where this account does not look" in finding.what
    ward.run(str(finding.sql))
    try:
        assert admit().ask("migrations.current").level is Level.OK
    finally:
        ward.run(f'ALTER ROLE CURRENT_USER IN DATABASE "{name}" RESET ALL')


def test_a_table_that_hides_ours(ward: Ward, admit: Callable[..., Ward]) -> None:
    name = ward.url.rpartition("/")[2]
    ward.run("CREATE SCHEMA first", "CREATE TABLE first.turns (LIKE public.turns INCLUDING ALL)")
    ward.run(f'ALTER DATABASE "{name}" SET search_path = first, public')
    misled = admit()
    finding = misled.ask("migrations.drift").findings[0]
    assert finding.level is Level.CRITICAL
    assert finding.evidence["found"] == ["first.turns"]
    assert misled.ask("indexes.expected").level is Level.UNKNOWN
    ward.run(str(finding.sql))
    assert admit().ask("indexes.expected").level is Level.OK


def test_triggers_and_rules_by_hand(ward: Ward) -> None:
    ward.run(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        'CREATE TRIGGER "by hand" BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION swallow()',
        "CREATE RULE keep AS ON DELETE TO turns DO INSTEAD NOTHING",
        "CREATE TABLE theirs (a int)",
        "CREATE TRIGGER t BEFORE INSERT ON theirs FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    one, two = ward.ask("migrations.drift").findings
    assert 'the trigger "by hand"' in one.what
    assert "the rule keep" in two.what
    ward.run(str(one.sql), str(two.sql))
    assert ward.ask("migrations.drift").level is Level.OK


def test_what_was_changed_by_hand(ward: Ward) -> None:
    for check in ("current", "next", "drift"):
        answer = ward.ask(f"migrations.{check}")
        assert (answer.level, answer.findings) == (Level.OK, ())
    ward.run(
        "ALTER TABLE users ADD COLUMN shoe_size int",
        "ALTER TABLE projects DROP COLUMN description",
        "ALTER TABLE users ALTER COLUMN name TYPE text",
        "ALTER TABLE turns ALTER COLUMN provider DROP NOT NULL",
        "DROP TABLE legal_holds",
        "CREATE TABLE somebody_elses (id int)",
        "CREATE INDEX by_hand ON users (name)",
    )
    told = {finding.what: finding.level for finding in ward.ask("migrations.drift").findings}
    assert told == {
        "The column users.shoe_size is in no model.": Level.WARNING,
        "The column projects.description is missing.": Level.CRITICAL,
        "The type of users.name is not the model's.": Level.WARNING,
        "The nullability of turns.provider is not the model's.": Level.WARNING,
        "The table legal_holds is missing.": Level.CRITICAL,
    }


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("CREATE TABLE a (b uuid REFERENCES users (id), FOREIGN KEY(c) REFERENCES public.turns (id))",
         [Lock("users", SHARE_ROW_EXCLUSIVE), Lock("turns", SHARE_ROW_EXCLUSIVE)]),
        ("CREATE TABLE a (id int PRIMARY KEY, parent int REFERENCES a (id))", []),
        ('CREATE INDEX i ON "users" (name)', [Lock("users", "SHARE", Work.BUILD)]),
        ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON users (name)",
         [Lock("users", "SHARE UPDATE EXCLUSIVE", Work.BUILD)]),
        ("DROP INDEX CONCURRENTLY ix_a", [Lock("index:ix_a", "SHARE UPDATE EXCLUSIVE")]),
        ("DROP INDEX ix_a", [Lock("index:ix_a", ACCESS_EXCLUSIVE)]),
        ("ALTER TABLE users ADD COLUMN a int", [Lock("users", ACCESS_EXCLUSIVE)]),
        ("ALTER TABLE users ADD COLUMN a uuid DEFAULT gen_random_uuid() NOT NULL",
         [Lock("users", ACCESS_EXCLUSIVE, Work.REWRITE)]),
        ("ALTER TABLE users ALTER COLUMN name TYPE text", [Lock("users", ACCESS_EXCLUSIVE, Work.REWRITE)]),
        ("ALTER TABLE users ALTER COLUMN name SET NOT NULL", [Lock("users", ACCESS_EXCLUSIVE, Work.SCAN)]),
        ("ALTER TABLE users ADD CONSTRAINT c CHECK (name <> '')", [Lock("users", ACCESS_EXCLUSIVE, Work.SCAN)]),
        ("ALTER TABLE users ADD CONSTRAINT c CHECK (name <> '') NOT VALID", [Lock("users", ACCESS_EXCLUSIVE)]),
        ("ALTER TABLE users VALIDATE CONSTRAINT c", [Lock("users", "SHARE UPDATE EXCLUSIVE", Work.SCAN)]),
        ("ALTER TABLE turns ADD CONSTRAINT f FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE",
         [Lock("turns", SHARE_ROW_EXCLUSIVE, Work.SCAN), Lock("users", SHARE_ROW_EXCLUSIVE)]),
        ("ALTER TABLE users ADD CONSTRAINT u UNIQUE (name)", [Lock("users", ACCESS_EXCLUSIVE, Work.BUILD)]),
        ("ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX i", [Lock("users", ACCESS_EXCLUSIVE)]),
        ("UPDATE users SET name = 'x'", [Lock("users", "ROW EXCLUSIVE", Work.ROWS)]),
        ("INSERT INTO alembic_version (version_num) VALUES ('1')",
         [Lock("alembic_version", "ROW EXCLUSIVE", Work.ROWS)]),
        ("TRUNCATE users", [Lock("users", ACCESS_EXCLUSIVE)]),
        ("COMMENT ON COLUMN public.users.name IS 'x'", [Lock("users", "SHARE UPDATE EXCLUSIVE")]),
        ("SET lock_timeout = '5s'", []),
        ("COMMIT", []),
    ],
)  # fmt: skip
def test_what_a_statement_locks(statement: str, wanted: list[Lock]) -> None:
    assert locks(statement) == wanted


@pytest.mark.parametrize("statement", ["CLUSTER users USING i", "DO $$ BEGIN END $$", "CALL f()"])
def test_of_an_unknown_statement_it_is_said_that_it_is_not_known(statement: str) -> None:
    with pytest.raises(UnknownStatement):
        locks(statement)


def test_a_semicolon_inside_of_quotes_ends_nothing() -> None:
    sql = "-- a comment; of a line\nSELECT 'a;b', '''; x';\n\nDO $x$ BEGIN; END $x$;\nCOMMIT;"
    assert list(statements(sql)) == ["SELECT 'a;b', '''; x'", "DO $x$ BEGIN; END $x$", "COMMIT"]


def test_no_migration_of_ours_is_a_riddle(ward: Ward) -> None:
    with ward.flask_app.app_context():
        assert [(step.id, step.unknown) for step in pending(None) if step.unknown] == []


def test_what_is_said_to_be_locked_is_what_is_locked(empty: Ward) -> None:
    """Every migration, on a real database: at the end of its transaction, before the commit, its locks are looked at.

    Those that build CONCURRENTLY have no transaction to look into, and are left out.
    """
    revisions = known_revisions_of(empty)
    engine = create_engine(empty.url)
    looked_at = 0
    for before, revision in zip([None, *revisions], revisions, strict=False):
        source = Path(MIGRATIONS, "versions").glob(f"{revision}_*.py").__next__()
        if "autocommit_block" in source.read_text():
            with at(empty, revision):
                continue
        namespace: dict[str, Callable[[], None]] = {}
        exec(compile(source.read_text(), str(source), "exec"), namespace)
        with engine.connect() as connection:
            there = {name for (name,) in connection.execute(text("SELECT relname FROM pg_class WHERE relkind = 'r'"))}
            with Operations.context(MigrationContext.configure(connection)):
                namespace["upgrade"]()
            held = strongest(
                (name, mode)
                for name, mode in connection.execute(text(HELD))
                if name in there and not name.startswith("pg_")
            )
            connection.rollback()
        with empty.flask_app.app_context():
            step = pending(before)[0]
        said = strongest((lock.table, lock.mode) for lock in step.locks if not lock.table.startswith("index:"))
        assert {name: mode for name, mode in said.items() if name in there} == held, (before, revision)
        looked_at += 1
        with at(empty, revision):
            pass
    engine.dispose()
    assert looked_at > 3


# What everybody takes who only reads or names a table is of no interest.
HELD = """
SELECT c.relname, upper(btrim(regexp_replace(regexp_replace(l.mode, 'Lock$', ''), '([A-Z])', ' \\1', 'g')))
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
 WHERE l.pid = pg_backend_pid() AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') AND c.relkind = 'r'"""


def known_revisions_of(ward: Ward) -> list[str]:
    with ward.flask_app.app_context():
        return known_revisions()


def strongest(found: Iterator[tuple[str, str]]) -> dict[str, str]:
    result: dict[str, str] = {}
    for name, mode in found:
        result[name] = max(result.get(name, ORDER[0]), mode, key=ORDER.index)
    return result


def test_many_rows_that_cannot_be_written_meanwhile_are_critical(empty: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "MANY_ROWS", 1)
    steps = [migrations.Revision("0042", "Something", (Lock("users", ACCESS_EXCLUSIVE, Work.REWRITE),), ("CALL f()",))]
    monkeypatch.setattr(migrations, "pending", lambda _: steps)
    with at(empty, "head"):
        empty.run(
            "INSERT INTO users (id, email, name, password_hash) SELECT gen_random_uuid(), i || '@x.y', 'a', 'x' "
            "FROM generate_series(1, 5) i",
            "ANALYZE users",
        )
        (finding,) = empty.ask("migrations.next").findings
    assert finding.level is Level.CRITICAL
    assert "stops writes to users for long" in finding.what
    assert "not known: CALL f()" in finding.what
    assert "5 rows" in finding.evidence["users"]
