"""A superuser's backup, restored by a role without privileges."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import make_url

from ops.backup.create import create
from ops.backup.drill import drill
from ops.backup.errors import RestoreFailed
from ops.backup.restore import RestoreReport, restore
from tests.database import fresh_database
from tests.ops.backup.conftest import BackupInstall, as_role
from tests.ops.installation import run_sql


@pytest.fixture
def role(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    name = f"ordinary_{testrun_uid[:8]}_{worker_id}"
    run_sql(postgres, f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD 'ordinary'")
    yield name
    run_sql(postgres, f"DROP ROLE {name}")


@pytest.fixture
def own_url(postgres: str, role: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    """URL, as the ordinary role, of an empty database that it owns."""
    with fresh_database(postgres, f"own_{testrun_uid[:8]}_{worker_id}") as url:
        run_sql(url, f'ALTER DATABASE "{make_url(url).database}" OWNER TO {role}')
        yield as_role(url, role, "ordinary")


@pytest.fixture
def superusers(install: Callable[..., BackupInstall], spare_url: str, role: str) -> Iterator[BackupInstall]:
    """Return Parley on a database with what only a superuser can create, and with another role's privileges."""
    run_sql(
        spare_url,
        "CREATE EXTENSION pg_stat_statements",
        "CREATE EXTENSION pgstattuple",
        "CREATE EXTENSION pg_trgm",
        "COMMENT ON EXTENSION pg_trgm IS 'words'",
        "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER noting ON ddl_command_end EXECUTE FUNCTION note()",
        f"GRANT SELECT ON messages TO {role}",
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role}",
    )
    yield install(spare_url)
    run_sql(spare_url, f"DROP OWNED BY {role}")


def test_ordinary_role_restores_a_superusers_backup(superusers: BackupInstall, own_url: str, role: str) -> None:
    name = superusers.run(create).name
    restored: RestoreReport = superusers.run(restore, name=name, to=own_url)
    assert (restored.ok, restored.problems) == (True, ())
    named = sorted(message.partition(":")[0] for message in restored.skipped)
    assert named == ["the event trigger noting", "the extension pg_stat_statements", "the extension pgstattuple"]
    assert all("permission denied" in message or "superuser" in message for message in restored.skipped)
    assert f"flask ops backup switch {make_url(own_url).database}" in restored.next_step
    assert run_sql(own_url, "SELECT count(*) FROM messages") == [(4000,)]
    assert run_sql(own_url, "SELECT extname FROM pg_extension ORDER BY 1") == [("pg_trgm",), ("plpgsql",)]
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    assert run_sql(own_url, owners) == [(role,)]
    assert run_sql(own_url, "SELECT relacl FROM pg_class WHERE relname = 'messages'") == [(None,)]
    assert run_sql(own_url, "SELECT count(*) FROM pg_default_acl") == [(0,)]
    analysed = "SELECT reltuples::int FROM pg_class WHERE relname = 'messages'"
    assert run_sql(own_url, analysed) == [(4000,)]


def test_command_names_what_was_skipped(
    superusers: BackupInstall, own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = superusers.run(create).name
    monkeypatch.setenv("PGPASSWORD", "ordinary")
    url = make_url(own_url)
    shown = f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"
    code, out, err = superusers.command("restore", name, "--to", shown, "--yes")
    assert code == 0, err
    assert "pg_stat_statements" in out
    assert "backup switch" in out


def test_superuser_restores_everything(
    superusers: BackupInstall, spare_url: str, postgres: str, worker_id: str
) -> None:
    name = superusers.run(create).name
    with fresh_database(postgres, f"all_{make_url(spare_url).database}_{worker_id}") as url:
        restored: RestoreReport = superusers.run(restore, name=name, to=url)
        assert (restored.ok, restored.skipped) == (True, ())
        assert run_sql(url, "SELECT evtname FROM pg_event_trigger") == [("noting",)]


def test_drill_as_an_ordinary_role_names_what_was_skipped(
    install: Callable[..., BackupInstall], superusers: BackupInstall, own_url: str
) -> None:
    superusers.run(create)
    elsewhere = install(superusers.url, drill_url=own_url)
    drilled = elsewhere.run(drill)
    assert drilled.ok, drilled.problems
    assert [message.partition(":")[0] for message in drilled.skipped][:1] == ["the extension pg_stat_statements"]


def test_restore_fails_if_a_table_needs_a_skipped_extension(superusers: BackupInstall, own_url: str) -> None:
    run_sql(superusers.url, "CREATE VIEW calls AS SELECT queryid, calls FROM pg_stat_statements")
    name = superusers.run(create).name
    with pytest.raises(RestoreFailed, match="pg_restore failed"):
        superusers.run(restore, name=name, to=own_url)
    assert run_sql(own_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_role_that_does_not_own_the_database_is_refused(superusers: BackupInstall, own_url: str, postgres: str) -> None:
    name, database = superusers.run(create).name, make_url(own_url).database
    run_sql(postgres, f'ALTER DATABASE "{database}" OWNER TO {make_url(postgres).username}')
    with pytest.raises(RestoreFailed, match=r"must be owner of database .*: let its role own the database"):
        superusers.run(restore, name=name, to=own_url)
