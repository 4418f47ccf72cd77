"""Advice for a database whose revision is not found: a look-alike schema, another application, pending migrations."""

from collections.abc import Callable, Iterator

import pytest

from ops.levels import Level
from tests.database import fresh_database
from tests.ops.doctor.advice.following import follow, run_command
from tests.ops.doctor.conftest import DoctorInstall, open_install
from tests.ops.doctor.test_migrations import at

Make = Callable[..., DoctorInstall]
CURRENT = "migrations.current"
USER = (
    "INSERT INTO {schema}.users (id, email, email_key, name, password_hash) VALUES (gen_random_uuid(), 'a@b.c',"
    " 'a@b.c', 'a', 'x')"
)


@pytest.fixture
def empty(postgres: str, url: str, settings: object) -> Iterator[DoctorInstall]:
    with (
        fresh_database(postgres, f"{url.rpartition('/')[2]}_empty") as bare,
        open_install(bare, settings, {}) as install,  # type: ignore[arg-type]
    ):
        yield install


def copy_schema(install: DoctorInstall, name: str, *, revision: bool = True) -> None:
    """Create a schema with empty tables like Parley's."""
    install.run(f"CREATE SCHEMA {name}")
    for (table,) in install.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        install.run(f"CREATE TABLE {name}.{table} (LIKE public.{table} INCLUDING ALL)")
    if revision:
        install.run(f"INSERT INTO {name}.alembic_version SELECT * FROM public.alembic_version")


@pytest.mark.parametrize("with_revision", [True, False])
def test_empty_look_alike_is_not_recommended(install: DoctorInstall, make_install: Make, with_revision: bool) -> None:
    """`aaa` comes first in the alphabet; the users are in `public`."""
    install.run(USER.format(schema="public"))
    copy_schema(install, "aaa", revision=with_revision)
    lost = make_install(database={"url": install.url, "search_path": "elsewhere"})
    (finding,) = lost.run_check(CURRENT).findings
    assert finding.remedy == "Set DB_SEARCH_PATH=public"
    found = make_install(database={"url": install.url, "search_path": "public"})
    assert found.run_check(CURRENT).level is Level.OK


@pytest.mark.parametrize("with_revision", [True, False])
def test_look_alike_in_use_is_found(install: DoctorInstall, make_install: Make, with_revision: bool) -> None:
    """Stamping the empty tables would make them the ones in use for ever."""
    install.run(USER.format(schema="public"))
    copy_schema(install, "aaa", revision=with_revision)
    misled = make_install(database={"url": install.url, "search_path": "aaa"})
    (finding,) = misled.run_check(CURRENT).findings
    assert finding.level is Level.CRITICAL
    assert finding.remedy == "Set DB_SEARCH_PATH=public"
    assert make_install().run_check(CURRENT).level is Level.OK


def test_two_installations_are_not_confused(install: DoctorInstall, make_install: Make) -> None:
    install.run(USER.format(schema="public"))
    copy_schema(install, "zzz")
    install.run(USER.format(schema="zzz"))
    for path in ("public", "zzz"):
        own = make_install(database={"url": install.url, "search_path": path})
        assert own.run_check(CURRENT).level is Level.OK
    (finding,) = make_install(database={"url": install.url, "search_path": "elsewhere"}).run_check(CURRENT).findings
    assert str(finding.remedy).startswith("Which of the schemas belongs to this installation?")


def test_new_installation_beside_another_one_asks(install: DoctorInstall, make_install: Make) -> None:
    install.run("CREATE SCHEMA fresh")
    beside = make_install(database={"url": install.url, "search_path": "fresh"})
    (finding,) = beside.run_check(CURRENT).findings
    assert "Does that schema belong to this installation?" in str(finding.remedy)


def test_tables_that_match_are_stamped(install: DoctorInstall) -> None:
    install.run("DELETE FROM alembic_version", USER.format(schema="public"))
    (finding,) = install.run_check(CURRENT).findings
    follow(install, finding)
    assert install.run_check(CURRENT).level is Level.OK
    assert install.run_check("migrations.drift").level is Level.OK


@pytest.mark.parametrize(
    "change",
    ["DROP TABLE search_documents", "ALTER TABLE users DROP COLUMN email_key", "ALTER TABLE turns ADD COLUMN a int"],
)
def test_tables_of_another_revision_are_not_stamped(install: DoctorInstall, change: str) -> None:
    install.run("DELETE FROM alembic_version", change)
    (finding,) = install.run_check(CURRENT).findings
    assert str(finding.remedy).startswith("Which revision had the last deployment?")
    assert finding.sql is None


def test_tables_of_another_application_are_not_stamped(empty: DoctorInstall) -> None:
    empty.run("CREATE TABLE users (id int PRIMARY KEY, login text)")
    (finding,) = empty.run_check(CURRENT).findings
    assert "?" in str(finding.remedy)
    assert "another application" in str(finding.remedy)


def test_pending_migration_is_fixed(empty: DoctorInstall) -> None:
    with at(empty, "0007"):
        empty.run("ANALYZE")
    for finding in empty.run_check("migrations.next").findings[:1]:
        follow(empty, finding)
    assert empty.run_check("migrations.next").level is Level.OK
    assert empty.run_check(CURRENT).level is Level.OK


def test_command_of_the_question_is_valid(install: DoctorInstall) -> None:
    run_command(install, "db", "upgrade")
