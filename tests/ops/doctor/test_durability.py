"""What a crash of the server would lose, and what row level security hides."""

from collections.abc import Callable

from ops.levels import Level
from tests.ops.doctor.conftest import Ward, as_role

TESTS_OWN = {"fsync", "full_page_writes"}  # off where the tests' server is made for speed


def told(ward: Ward) -> set[str]:
    return {finding.what.split()[0] for finding in ward.ask("storage.durable").findings} - TESTS_OWN


def test_commits_that_a_crash_loses(ward: Ward, admit: Callable[..., Ward]) -> None:
    name = ward.url.rpartition("/")[2]
    assert told(ward) == set()
    ward.run(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    findings = admit().ask("storage.durable").findings
    (finding,) = [finding for finding in findings if finding.what.startswith("synchronous_commit")]
    assert finding.level is Level.CRITICAL
    ward.run(str(finding.sql))
    assert told(admit()) == set()
    ward.run(f'ALTER DATABASE "{name}" SET synchronous_commit = local')
    assert told(admit()) == set()


def test_a_table_that_a_crash_empties(ward: Ward) -> None:
    ward.run("ALTER TABLE turn_events SET UNLOGGED", "CREATE UNLOGGED TABLE theirs (a int)")
    (finding,) = [each for each in ward.ask("storage.durable").findings if "unlogged" in each.what]
    assert "public.turn_events" in finding.what
    ward.run(str(finding.sql))
    assert told(ward) == set()


def test_rows_that_a_policy_hides(admit: Callable[..., Ward], ward: Ward, role: str) -> None:
    ward.run(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"', "ALTER TABLE messages ENABLE ROW LEVEL SECURITY")
    weak = admit(database={"url": as_role(ward.url, role), "direct_url": ward.url})
    (finding,) = weak.ask("connection.privileges").findings
    assert finding.level is Level.CRITICAL
    ward.run(str(finding.sql))
    assert weak.ask("connection.privileges").level is Level.OK
