"""The schema compared with the models: each kind of change, and the statement that undoes it."""

import pytest

from ops.checks.findings import Finding
from ops.levels import Level
from tests.ops.doctor.conftest import DoctorInstall

DRIFT = "migrations.drift"

CHANGES = {
    "ALTER TABLE users ADD COLUMN shoe_size int": "The column users.shoe_size is in no model.",
    "ALTER TABLE projects DROP COLUMN provider": "The column projects.provider is missing.",
    "ALTER TABLE users ALTER COLUMN name TYPE text": "The type of users.name differs from the model.",
    "ALTER TABLE messages ALTER COLUMN position TYPE bigint": "The type of messages.position differs from the model.",
    "ALTER TABLE turns ALTER COLUMN provider DROP NOT NULL": "The nullability of turns.provider differs",
    "ALTER TABLE turns ALTER COLUMN model SET NOT NULL": "The nullability of turns.model differs from the model.",
    "ALTER TABLE users ALTER COLUMN role DROP DEFAULT": "The default of users.role differs from the model.",
    "ALTER TABLE users ALTER COLUMN role SET DEFAULT 'admin'": "The default of users.role differs from the model.",
    "ALTER TABLE users ALTER COLUMN name SET DEFAULT 'x'": "The default of users.name differs from the model.",
    "ALTER TABLE users ALTER COLUMN created_at SET DEFAULT '2020-01-01'": "The default of users.created_at differs",
    "DROP TABLE legal_holds": "The table legal_holds is missing.",
    'ALTER TABLE users ALTER COLUMN email TYPE varchar(254) COLLATE "C"': "The collation of users.email is",
    "ALTER TABLE projects RENAME TO theirs": "The table projects is missing; public.theirs has its columns.",
    "ALTER TABLE users RENAME TO theirs; CREATE VIEW users AS SELECT * FROM theirs": (
        "The table users is missing; public.theirs has its columns."
    ),
    "CREATE SCHEMA AUTHORIZATION CURRENT_USER; DO $$ BEGIN EXECUTE format('CREATE VIEW %I.users AS SELECT * FROM"
    " public.users', current_user); END $$": "The table users is missing; public.users has its columns.",
    "CREATE SCHEMA elsewhere; ALTER TABLE users SET SCHEMA elsewhere": (
        "The table users is missing; elsewhere.users has its columns."
    ),
    "ALTER TABLE projects RENAME COLUMN name TO title": (
        "The column projects.name is missing; the column title is in no model."
    ),
    "CREATE TABLE theirs () INHERITS (messages)": "public.theirs inherits from public.messages:",
    "CREATE TABLE base (user_id uuid NOT NULL); ALTER TABLE turn_events INHERIT base": "public.turn_events inherits",
    "ALTER TABLE messages ADD CONSTRAINT theirs FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL": (
        "The foreign key theirs of messages is in no model"
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_found_and_undone_by_its_statement(install: DoctorInstall, change: str) -> None:
    assert install.run_check(DRIFT).level is Level.OK
    install.run(change)
    (finding, *_) = [finding for finding in install.run_check(DRIFT).findings if CHANGES[change] in finding.message]
    for finding in install.run_check(DRIFT).findings:
        install.run(str(finding.sql))
    result = install.run_check(DRIFT)
    assert (result.level, result.findings) == (Level.OK, ()), finding


def test_missing_table_or_column_is_critical(install: DoctorInstall) -> None:
    install.run("DROP TABLE legal_holds", "ALTER TABLE projects DROP COLUMN provider")
    assert {finding.level for finding in install.run_check(DRIFT).findings} == {Level.CRITICAL}


def foreign_keys(install: DoctorInstall) -> list[tuple[str, str, str]]:
    return install.run(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND connamespace = 'public'::regnamespace ORDER BY 1, 2"
    )


def fix(install: DoctorInstall, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        install.run(*str(finding.sql).split("\n"))
    assert install.run_check(DRIFT).level is Level.OK


def test_each_changed_foreign_key_is_found(install: DoctorInstall) -> None:
    before = foreign_keys(install)
    assert len(before) > 10
    for table, name, definition in before:
        base, _, action = definition.partition(" ON DELETE ")
        other = "RESTRICT" if action.startswith("CASCADE") else "CASCADE"
        install.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {base} ON DELETE {other}")
    findings = install.run_check(DRIFT).findings
    assert {finding.object: "is changed" in finding.message for finding in findings} == {
        name: True for _, name, _ in before
    }
    fix(install, findings)
    assert foreign_keys(install) == before


def test_each_missing_foreign_key_is_found(install: DoctorInstall) -> None:
    before = foreign_keys(install)
    for table, name, _ in before:
        install.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    findings = install.run_check(DRIFT).findings
    assert {finding.object: "is missing" in finding.message for finding in findings} == {
        name: True for _, name, _ in before
    }
    fix(install, findings)
    assert foreign_keys(install) == before


@pytest.mark.parametrize("change", [" ON UPDATE CASCADE", " DEFERRABLE INITIALLY DEFERRED", " ON DELETE SET NULL"])
def test_option_of_foreign_key_is_compared(install: DoctorInstall, change: str) -> None:
    table, name, definition = next(row for row in foreign_keys(install) if row[0] == "legal_holds")
    install.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {definition}{change}")
    findings = install.run_check(DRIFT).findings
    assert [finding.object for finding in findings] == [name]
    fix(install, findings)


def test_foreign_key_with_other_name_is_not_missing(install: DoctorInstall) -> None:
    (name,) = [name for table, name, _ in foreign_keys(install) if table == "legal_holds"]
    install.run(f"ALTER TABLE legal_holds RENAME CONSTRAINT {name} TO theirs")
    assert install.run_check(DRIFT).level is Level.OK


@pytest.mark.parametrize("change", [change for change in CHANGES if "is missing; " in CHANGES[change]])
def test_renamed_object_has_one_finding(install: DoctorInstall, change: str) -> None:
    """Its foreign keys and constraints are what they were."""
    install.run(change)
    assert len(install.run_check(DRIFT).findings) == 1
    assert [each for each in install.run_check("tables.constraints").findings if "references" in each.message] == []
