"""Durability settings, unlogged tables and row-level security."""

from collections.abc import Callable

from ops.levels import Level
from tests.ops.doctor.conftest import DoctorInstall, as_role

TESTS_OWN = {"fsync", "full_page_writes"}  # switched off on the tests' server for speed


def finding_subjects(install: DoctorInstall) -> set[str]:
    return {finding.message.split()[0] for finding in install.run_check("storage.durable").findings} - TESTS_OWN


def test_asynchronous_commit_is_found(install: DoctorInstall, make_install: Callable[..., DoctorInstall]) -> None:
    name = install.url.rpartition("/")[2]
    assert finding_subjects(install) == set()
    install.run(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    findings = make_install().run_check("storage.durable").findings
    (finding,) = [finding for finding in findings if finding.message.startswith("synchronous_commit")]
    assert finding.level is Level.CRITICAL
    install.run(str(finding.sql))
    assert finding_subjects(make_install()) == set()
    install.run(f'ALTER DATABASE "{name}" SET synchronous_commit = local')
    assert finding_subjects(make_install()) == set()


def test_unlogged_table_is_found(install: DoctorInstall) -> None:
    install.run("ALTER TABLE turn_events SET UNLOGGED", "CREATE UNLOGGED TABLE theirs (a int)")
    (finding,) = [finding for finding in install.run_check("storage.durable").findings if "unlogged" in finding.message]
    assert "public.turn_events" in finding.message
    install.run(str(finding.sql))
    assert finding_subjects(install) == set()


def test_row_level_security_is_critical(
    make_install: Callable[..., DoctorInstall], install: DoctorInstall, role: str
) -> None:
    install.run(
        f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"', "ALTER TABLE messages ENABLE ROW LEVEL SECURITY"
    )
    weak = make_install(database={"url": as_role(install.url, role), "direct_url": install.url})
    (finding,) = weak.run_check("connection.privileges").findings
    assert finding.level is Level.CRITICAL
    install.run(str(finding.sql))
    assert weak.run_check("connection.privileges").level is Level.OK
