"""Memory, autovacuum, expiring roles and connection limits, each set where an operator would set it."""

from collections.abc import Callable

import pytest
from sqlalchemy import make_url

from ops.checks.context import open_check_context
from ops.doctor.checks.autovacuum import effect_of
from ops.doctor.checks.pool import read_pool
from ops.levels import Level
from tests.ops.doctor.conftest import DoctorInstall, as_role

Make = Callable[..., DoctorInstall]


@pytest.fixture
def app_role(install: DoctorInstall, role: str) -> str:
    """Return the URL of a role as which the application could connect."""
    install.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"')
    return as_role(install.url, role)


@pytest.mark.parametrize("scope", ["ROLE {role}", "DATABASE {database}", "ROLE {role} IN DATABASE {database}"])
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("work_mem", "'64kB'"),
        ("work_mem", "'900kB'"),
        ("work_mem", "'2GB'"),
        ("maintenance_work_mem", "'1MB'"),
        ("temp_file_limit", "'10MB'"),
        ("temp_file_limit", "0"),
    ],
)
def test_memory_setting_is_found_and_reset(
    install: DoctorInstall, make_install: Make, role: str, app_role: str, scope: str, setting: str, value: str
) -> None:
    names = {"role": f'"{role}"', "database": f'"{make_url(install.url).database}"'}
    urls = {"url": app_role, "direct_url": install.url}
    assert make_install(database=urls).run_check("server.memory").findings == ()
    install.run(f"ALTER {scope.format(**names)} SET {setting} = {value}")
    (finding,) = make_install(database=urls).run_check("server.memory").findings
    assert (finding.object, finding.level) == (setting, Level.WARNING)
    install.run(str(finding.sql))
    assert make_install(database=urls).run_check("server.memory").findings == ()


@pytest.mark.parametrize("value", ["1MB", "4MB", "64MB"])
def test_usual_work_mem_is_ok(install: DoctorInstall, make_install: Make, value: str) -> None:
    install.run(f"ALTER DATABASE \"{make_url(install.url).database}\" SET work_mem = '{value}'")
    assert make_install().run_check("server.memory").findings == ()


@pytest.mark.parametrize(
    "option",
    [
        "autovacuum_vacuum_scale_factor = 50",
        "autovacuum_vacuum_threshold = 2000000000",
        "autovacuum_analyze_scale_factor = 1",
        "autovacuum_analyze_threshold = 2000000000",
        "autovacuum_vacuum_insert_threshold = 2000000000",
        "autovacuum_vacuum_cost_delay = 100",
        "autovacuum_vacuum_cost_limit = 1",
        "autovacuum_freeze_max_age = 2000000000",
        "toast.autovacuum_vacuum_scale_factor = 10",
    ],
)
def test_absurd_option_of_table_is_found_and_reset(install: DoctorInstall, option: str) -> None:
    before = install.run_check("tables.autovacuum").findings
    install.run(f"ALTER TABLE messages SET ({option})")
    (finding,) = [finding for finding in install.run_check("tables.autovacuum").findings if finding not in before]
    assert finding.object == f"public.messages {option.split()[0]}"
    install.run(str(finding.sql))
    assert install.run_check("tables.autovacuum").findings == before


def test_tuned_option_of_table_is_ok(install: DoctorInstall) -> None:
    before = install.run_check("tables.autovacuum").findings
    install.run(
        "ALTER TABLE messages SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_threshold = 5000,"
        " autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_limit = 2000)"
    )
    assert install.run_check("tables.autovacuum").findings == before


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("autovacuum_vacuum_scale_factor", "0.2", False),
        ("autovacuum_vacuum_scale_factor", "0.9", True),
        ("autovacuum_vacuum_scale_factor", "1e10", True),
        ("autovacuum_naptime", "60", False),
        ("autovacuum_naptime", "2147483", True),
        ("autovacuum_vacuum_cost_limit", "-1", False),
        ("vacuum_cost_limit", "200", False),
        ("vacuum_cost_limit", "1", True),
        ("autovacuum_enabled", "false", False),
    ],
)
def test_limits_of_autovacuum(name: str, value: str, found: bool) -> None:
    assert (effect_of(name, value) is not None) is found


@pytest.mark.parametrize(
    ("until", "level"),
    [
        ("infinity", Level.OK),
        ("now + 40 days", Level.OK),
        ("now + 20 days", Level.WARNING),
        ("now + 5 days", Level.CRITICAL),
        ("now - 1 day", Level.CRITICAL),
    ],
)
def test_expiring_role_is_found(
    install: DoctorInstall, make_install: Make, role: str, app_role: str, until: str, level: Level
) -> None:
    open_before = make_install(database={"url": app_role, "direct_url": install.url})
    assert open_before.run_check("connection.role").level is Level.OK  # keeps its pooled connection
    moment = until
    if until != "infinity":
        moment = install.value(f"SELECT (now() + interval '{until.removeprefix('now')}')::text")
    install.run(f"ALTER ROLE \"{role}\" VALID UNTIL '{moment}'")
    result = open_before.run_check("connection.role")
    assert result.level is level
    for finding in result.findings:
        assert f"The password of the role {role} " in finding.message
        install.run(str(finding.sql))
    assert open_before.run_check("connection.role").level is Level.OK


def test_role_without_login_is_critical(install: DoctorInstall, make_install: Make, role: str, app_role: str) -> None:
    parley = make_install(database={"url": app_role, "direct_url": install.url})
    assert parley.run_check("connection.role").level is Level.OK
    install.run(f'ALTER ROLE "{role}" NOLOGIN')
    (finding,) = parley.run_check("connection.role").findings
    assert finding.level is Level.CRITICAL
    install.run(str(finding.sql))
    assert parley.run_check("connection.role").level is Level.OK


def limits(install: DoctorInstall) -> dict[str, int]:
    with install.flask_app.app_context(), open_check_context() as context:
        return {limit.scope: limit.maximum for limit in read_pool(context).limits}


def test_limits_do_not_apply_to_a_superuser(install: DoctorInstall, make_install: Make, role: str) -> None:
    database = make_url(install.url).database
    install.run(f'ALTER ROLE "{role}" CONNECTION LIMIT 3', f'ALTER DATABASE "{database}" CONNECTION LIMIT 5')
    total = int(install.value("SELECT current_setting('max_connections')"))
    reserved = int(install.value("SELECT current_setting('superuser_reserved_connections')"))
    direct = make_install(database={"url": as_role(install.url, role)})
    assert limits(direct) == {"the server": total - reserved, f"role {role}": 3, f"database {database}": 5}
    install.run(f'ALTER ROLE "{role}" SUPERUSER')
    assert limits(direct) == {"the server": total}
