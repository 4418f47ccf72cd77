"""Triggers of Parley's tables: declared as the migrations create them, and found if they do not run."""

from collections.abc import Callable

import pytest
from sqlalchemy import make_url

from ops.doctor.declared_triggers import declared_triggers
from ops.levels import Level
from ops.upgrades.pending import split_statements
from tests.ops.doctor.conftest import DoctorInstall

DEFINITIONS = (
    "SELECT string_agg(pg_get_triggerdef(oid), chr(10) ORDER BY tgrelid::regclass::text, tgname)"
    " FROM pg_trigger WHERE NOT tgisinternal"
)


def test_statements_of_findings_create_the_triggers_of_the_migrations(install: DoctorInstall) -> None:
    migrated = install.value(DEFINITIONS)
    declared = list(declared_triggers())
    assert len(declared) == len(migrated.splitlines())
    install.run(*(f"DROP TRIGGER {each.name} ON {each.table}" for each in declared))
    result = install.run_check("migrations.triggers")
    assert (result.level, len(result.findings)) == (Level.WARNING, len(declared))
    for finding in result.findings:
        install.run(*split_statements(str(finding.sql)))
    assert install.run_check("migrations.triggers").findings == ()
    assert install.value(DEFINITIONS) == migrated


def test_disabled_triggers_of_a_table_are_found(install: DoctorInstall) -> None:
    assert install.run_check("migrations.triggers").level is Level.OK
    install.run("ALTER TABLE conversations DISABLE TRIGGER USER")
    found = install.run_check("migrations.triggers").findings
    assert {finding.object.split()[-1] for finding in found} == {
        "count_stored_insert",
        "count_stored_update",
        "count_stored_delete",
    }


def test_missing_function_is_a_question(install: DoctorInstall) -> None:
    install.run("DROP FUNCTION count_stored_prompts() CASCADE")
    found = install.run_check("migrations.triggers").findings
    assert {(finding.sql, "Who dropped it?" in str(finding.remedy)) for finding in found} == {(None, True)}


def test_event_triggers_that_are_off_are_found(
    install: DoctorInstall, make_install: Callable[..., DoctorInstall]
) -> None:
    if install.value("SELECT current_setting('server_version_num')::int / 10000") < 17:
        pytest.skip("event_triggers is new in PostgreSQL 17")
    install.run(
        "CREATE FUNCTION record_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER theirs ON ddl_command_end EXECUTE FUNCTION record_ddl()",
    )
    assert install.run_check("migrations.triggers").level is Level.OK
    install.run(f'ALTER DATABASE "{make_url(install.url).database}" SET event_triggers = off')
    (finding,) = make_install().run_check("migrations.triggers").findings
    assert finding.object == "event_triggers"
