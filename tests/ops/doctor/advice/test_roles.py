"""Advice on privileges: it fixes, and never gives a role more power than it needs."""

from collections.abc import Callable, Iterator

import pytest

from ops.levels import Level
from tests.ops.doctor.advice.following import follow
from tests.ops.doctor.conftest import DoctorInstall, as_role

Make = Callable[..., DoctorInstall]
PRIVILEGES = "connection.privileges"


@pytest.fixture
def owner_role(install: DoctorInstall) -> Iterator[str]:
    """Create an ordinary role that owns Parley's tables."""
    name = f"owner_{install.url.rpartition('/')[2]}"
    install.run(f'CREATE ROLE "{name}"', f'GRANT CREATE, USAGE ON SCHEMA public TO "{name}"')
    for (table,) in install.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        install.run(f'ALTER TABLE {table} OWNER TO "{name}"')
    yield name
    install.run(f'DROP OWNED BY "{name}" CASCADE', f'DROP ROLE "{name}"')


def test_tables_of_a_superuser_are_not_shared_by_membership(
    install: DoctorInstall, make_install: Make, role: str
) -> None:
    install.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
    weak = make_install(database={"url": install.url, "direct_url": as_role(install.url, role)})
    (finding,) = weak.run_check(PRIVILEGES).findings
    assert "GRANT parley" not in str(finding.sql)
    follow(install, finding)
    assert weak.run_check(PRIVILEGES).level is Level.OK
    assert install.value("SELECT count(*) FROM pg_auth_members WHERE member::regrole::text = %(role)s", role=role) == 0
    owned = weak.open(username=role, password=role)  # what ownership is needed for
    owned.exec_driver_sql("CREATE INDEX CONCURRENTLY by_hand ON users (name)")
    owned.close()


@pytest.mark.parametrize("inherits", ["INHERIT", "NOINHERIT"])
def test_tables_of_an_ordinary_role_are_shared_by_membership(
    install: DoctorInstall, make_install: Make, role: str, owner_role: str, inherits: str
) -> None:
    install.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"', f'ALTER ROLE "{role}" {inherits}')
    weak = make_install(database={"url": install.url, "direct_url": as_role(install.url, role)})
    (finding,) = weak.run_check(PRIVILEGES).findings
    assert "ALTER TABLE" not in str(finding.sql)
    follow(install, finding)
    assert (
        make_install(database={"url": install.url, "direct_url": as_role(install.url, role)})
        .run_check(PRIVILEGES)
        .level
        is Level.OK
    )


def test_schema_that_may_not_be_used_is_fixed(install: DoctorInstall, make_install: Make, role: str) -> None:
    install.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"', "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    weak = make_install(database={"url": as_role(install.url, role), "direct_url": install.url})
    (finding,) = weak.run_check(PRIVILEGES).findings
    assert finding.level is Level.CRITICAL
    both = make_install(database={"url": as_role(install.url, role)})
    (current,) = both.run_check("migrations.current").findings
    assert "upgrade" not in str(current.remedy)  # the database is not empty
    follow(install, finding)
    assert weak.run_check(PRIVILEGES).level is Level.OK
    assert both.run_check("migrations.current").level is Level.OK


def test_unreadable_sequence_is_fixed(install: DoctorInstall, make_install: Make, role: str) -> None:
    install.run("CREATE SEQUENCE numbers", f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
    weak = make_install(database={"url": as_role(install.url, role)})
    (finding,) = weak.run_check("tables.sequences").findings
    assert finding.level is Level.UNKNOWN
    follow(install, finding)
    assert weak.run_check("tables.sequences").findings == ()
