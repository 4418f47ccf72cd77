"""Each alert of the catalogue fires while its fault is really made, and ends after the fault."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import orjson
import pytest

from app.tools.mcp.definitions import clean_definitions
from ops.catalogue.alerts import ALERTS
from ops.embedded import ports
from tests.dashboards.faulty_platform import POOL, SETTINGS, STREAMS, FaultyPlatform, watched_platform
from tests.disks import try_to_mount
from tests.fakes import scripts
from tests.fakes.mcp import ScriptedMcp, text_result, tool
from tests.fakes.upstream import Upstream
from tests.ops.conftest import temporary_home
from tests.ops.up.conftest import Up, copy_project
from tests.waiting import wait_until

DISK_MEGABYTES = 500
PROGRAMS = {"prometheus": ("prometheus",), "alertmanager": ("prometheus-alertmanager", "alertmanager")}
MISSING = [name for name, programs in PROGRAMS.items() if not any(map(shutil.which, programs))]

FAILING_PROVIDER = ("ParleyErrorBudgetFast", "ParleyErrorBudgetSlow", "ParleyTurnsFailing", "ParleyCircuitOpen")
LOCKED_TABLE = ("ParleyQueriesSlow", "ParleyPoolNearlyFull", "ParleyPoolTimeouts", "ParleyPoolWaitSlow")
DATABASE = (
    "ParleyTransactionOld",
    "ParleyConnectionsNearlyUsed",
    "ParleyTransactionIdsUsed",
    "ParleyIndexInvalid",
    "ParleyArchiveLate",
)
NO_BACKUPS = ("ParleyBackupOld", "ParleyDrillOld")
STOPPED_BEAT = ("ParleyBeatStopped", "ParleyMetricsOld")
CHECKS = (
    "ParleyCheckStorageDurable",
    "ParleyCheckIndexesExpected",
    "ParleyCheckTablesConstraints",
    "ParleyCheckIndexesInvalid",
    "ParleyCheckArchiveBacklog",
    "ParleyCheckProviderReachable",
)
ALONE = (
    "ParleyStreamsNearlyFull",
    "ParleyMcpServerFailing",
    "ParleyToolsFailing",
    "ParleyMcpToolsFailing",
    "ParleyDiskNearlyFull",
    "ParleyDrillFailed",
    "ParleyQueueLong",
    "ParleyDown",
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("faults of alerts"),  # one platform for all
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}; install Debian's packages"),
]


@pytest.fixture(scope="module")
def platform() -> Iterator[FaultyPlatform]:
    """Run the platform on a small disk, with a scripted provider, a backup and a drill."""
    port = str(ports.choose_port(0))
    with ExitStack() as stack:
        home = stack.enter_context(temporary_home())
        disk_problem = stack.enter_context(try_to_mount(home, megabytes=DISK_MEGABYTES))
        upstream = stack.enter_context(Upstream(scripts.words(3)))
        up = Up(copy_project(home.parent / "clone"), home, PORT=port, OPENAI_BASE_URL=upstream.base_url, **SETTINGS)
        stack.callback(up.process.wait)
        stack.callback(up.process.terminate)
        up.wait_until_ready()
        platform = stack.enter_context(watched_platform(up, port, upstream, disk_problem))
        assert platform.caller.chat() == 200
        platform.run_jobs("backups.daily", "doctor.run", "stats.measure", "archive.measure")
        wait_until(lambda: list(platform.backups.rglob("*.json")))
        platform.run_jobs("backups.weekly_drill")
        yield platform


def test_every_alert_of_the_catalogue_is_here() -> None:
    tested = (*FAILING_PROVIDER, *LOCKED_TABLE, *DATABASE, *NO_BACKUPS, *STOPPED_BEAT, *ALONE)
    assert sorted(tested) == sorted(alert.name for alert in ALERTS)


def test_failing_provider(platform: FaultyPlatform) -> None:
    platform.assert_quiet(*FAILING_PROVIDER, during=platform.caller.chat)
    platform.upstream.script = scripts.api_error(500)
    platform.assert_fires(*FAILING_PROVIDER, during=platform.caller.chat)
    wait_until(lambda: "ParleyErrorBudgetFast" in platform.notifications.names("pages"))
    wait_until(lambda: "ParleyErrorBudgetSlow" in platform.notifications.names("tickets"))
    sent = platform.notifications.of("ParleyErrorBudgetFast")[0]["annotations"]
    assert sent["runbook_url"].endswith("docs/runbooks/alert-errors.md")
    assert sent["affected"]
    platform.upstream.script = scripts.words(3)
    web = platform.up.processes("gunicorn")
    for worker in web:  # only a new process closes the circuit before an hour is over
        if worker.parent() in web:
            worker.kill()
    platform.assert_quiet(*FAILING_PROVIDER, during=platform.caller.chat)
    wait_until(lambda: "ParleyCircuitOpen" in platform.notifications.names("pages", "resolved"))


def test_locked_table(platform: FaultyPlatform) -> None:
    """Statements that wait for a lock fill the pool."""
    platform.assert_quiet(*LOCKED_TABLE, during=lambda: platform.caller.request("/api/projects"))
    with closing(platform.connect()) as session, session.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE")
        with platform.requests("/api/projects", callers=4 * POOL):
            platform.assert_fires(*LOCKED_TABLE)
        cursor.execute("ROLLBACK")
    platform.assert_quiet(*LOCKED_TABLE, during=lambda: platform.caller.request("/api/projects"))


def test_open_streams(platform: FaultyPlatform) -> None:
    platform.assert_quiet("ParleyStreamsNearlyFull")
    platform.upstream.script = scripts.words(100_000, pause=0.5)
    with platform.open_streams(STREAMS):
        platform.assert_fires("ParleyStreamsNearlyFull")
    platform.upstream.script = scripts.words(3)
    platform.assert_quiet("ParleyStreamsNearlyFull")


def test_unreachable_mcp_server(platform: FaultyPlatform) -> None:
    platform.assert_quiet("ParleyMcpServerFailing")
    platform.execute(
        "INSERT INTO mcp_servers (name, url, connect_seconds, call_seconds, total_seconds, revision, updated_by)"
        " VALUES ('gone', 'http://127.0.0.1:9/mcp', 1, 1, 2, gen_random_uuid(), 'tests')"
    )

    def request() -> None:
        platform.execute("UPDATE mcp_servers SET checked_at = now() - interval '1 day'")
        platform.run_jobs("mcp.refresh_tools")
        time.sleep(1)

    platform.assert_fires("ParleyMcpServerFailing", during=request)
    platform.execute("DELETE FROM mcp_servers")
    platform.assert_quiet("ParleyMcpServerFailing")


def test_crashing_builtin_tool(platform: FaultyPlatform) -> None:
    platform.upstream.script = scripts.calls_tool()
    platform.assert_quiet("ParleyToolsFailing", during=platform.caller.chat)
    platform.execute("ALTER TABLE tasks RENAME TO tasks_moved")
    platform.assert_fires("ParleyToolsFailing", during=platform.caller.chat)
    platform.execute("ALTER TABLE tasks_moved RENAME TO tasks")
    platform.assert_quiet("ParleyToolsFailing", during=platform.caller.chat)
    platform.upstream.script = scripts.words(3)


def test_failing_tool_of_a_server_that_answers(platform: FaultyPlatform) -> None:
    server = ScriptedMcp([tool("forecast")], {"forecast": text_result("no such place", isError=True)})
    [definition] = clean_definitions([tool("forecast")])[0]
    allowed = {"forecast": {"hash": definition.hash, "needs_approval": False}}
    platform.assert_quiet("ParleyMcpToolsFailing")
    with Upstream(server.script) as upstream, closing(platform.connect()) as session, session.cursor() as cursor:
        cursor.execute(
            "INSERT INTO mcp_servers (name, url, connect_seconds, call_seconds, total_seconds, revision, updated_by,"
            " tools, allowed) VALUES ('weather', %s, 5, 5, 9, gen_random_uuid(), 'tests', %s, %s)",
            (
                f"http://127.0.0.1:{upstream.port}/mcp",
                orjson.dumps([definition.stored()]).decode(),
                orjson.dumps(allowed).decode(),
            ),
        )
        platform.upstream.script = scripts.calls_tool("weather__forecast", "{}")
        platform.assert_fires("ParleyMcpToolsFailing", during=platform.caller.chat)
        server.calls["forecast"] = text_result("sunny")
        platform.assert_quiet("ParleyMcpToolsFailing", during=platform.caller.chat)
    platform.upstream.script = scripts.words(3)
    platform.execute("DELETE FROM mcp_servers")


def test_database(platform: FaultyPlatform) -> None:
    """An open transaction, sessions of others, used transaction ids, an index that failed, and no archival."""
    measured = ("stats.measure", "archive.measure", "doctor.run")
    platform.run_jobs(*measured)
    platform.assert_quiet(*DATABASE)
    platform.execute(
        "CREATE TABLE things AS SELECT 1 AS a FROM generate_series(1, 2)",
        "UPDATE conversations SET created_at = now() - interval '93 days', updated_at = now() - interval '93 days'",
    )
    with pytest.raises(Exception, match="duplicated"):
        platform.execute("CREATE UNIQUE INDEX CONCURRENTLY once ON things (a)")
    looks = 0

    def go_on() -> None:
        nonlocal looks
        time.sleep(0.5)
        if looks % 10 == 0:  # autovacuum would repair what the next statement breaks
            platform.execute(USED_IDS)
            platform.run_jobs(*measured)
        looks += 1

    with ExitStack() as sessions:
        old = sessions.enter_context(closing(platform.connect()))
        old.autocommit = False
        old.cursor().execute("SELECT 1")
        for _ in range(free_connections(old)):
            sessions.enter_context(closing(platform.connect()))
        platform.assert_fires(*DATABASE, during=go_on)
    platform.execute(
        "DROP TABLE things",
        "UPDATE conversations SET updated_at = now()",
        UNUSED_IDS,
    )
    platform.run_jobs(*measured)
    platform.assert_quiet(*DATABASE)


UNUSED_IDS = """
SET allow_system_table_mods = on;
UPDATE pg_database
   SET datfrozenxid = (SELECT min(relfrozenxid::text::bigint) FROM pg_class WHERE relfrozenxid <> '0')::text::xid
 WHERE datname = current_database()"""
# An age of 1.2 of the 2.1 billion transactions after which PostgreSQL refuses writes. To use so many takes days.
USED_IDS = """
SET allow_system_table_mods = on;
UPDATE pg_database SET datfrozenxid = mod(pg_current_xact_id()::text::bigint + 3094967296, 4294967296)::text::xid
 WHERE datname = current_database()"""


def free_connections(session: Any) -> int:
    """Return how many connections must be opened until 90% of them are used."""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT (current_setting('max_connections')::int * 0.9)::int - count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
        )
        ((free,),) = cursor.fetchall()
    return int(free)


def test_checks_of_the_doctor(platform: FaultyPlatform) -> None:
    """Alerts of several checks, each by its own fault; tests/ops/doctor/alerts has the faults of all checks."""
    platform.run_jobs("doctor.run")
    platform.assert_quiet(*CHECKS, "ParleyCheckMigrationsCurrent")
    platform.execute(
        "ALTER TABLE turn_events SET UNLOGGED",
        "DROP INDEX ix_turns_conversation",
        "ALTER TABLE turns DISABLE TRIGGER ALL",
        "CREATE TABLE things AS SELECT 1 AS a FROM generate_series(1, 2)",
        "UPDATE conversations SET created_at = now() - interval '120 days', updated_at = now() - interval '120 days'",
    )
    with pytest.raises(Exception, match="duplicated"):
        platform.execute("CREATE UNIQUE INDEX CONCURRENTLY once ON things (a)")
    listing, platform.upstream.models = platform.upstream.models, scripts.api_error(500)
    platform.run_jobs("doctor.run")
    platform.assert_fires(*CHECKS)
    platform.execute("CREATE TABLE revision AS SELECT * FROM alembic_version", "DELETE FROM alembic_version")
    platform.run_jobs("doctor.run")
    platform.assert_fires("ParleyCheckMigrationsCurrent")
    platform.upstream.models = listing
    platform.execute(
        "INSERT INTO alembic_version SELECT * FROM revision",
        "DROP TABLE revision, things",
        "ALTER TABLE turn_events SET LOGGED",
        "CREATE INDEX ix_turns_conversation ON turns (user_id, conversation_id)",
        "ALTER TABLE turns ENABLE TRIGGER ALL",
        "UPDATE conversations SET updated_at = now()",
    )
    platform.run_jobs("doctor.run")
    platform.assert_quiet(*CHECKS, "ParleyCheckMigrationsCurrent")


def test_full_disk(platform: FaultyPlatform) -> None:
    if platform.disk_problem:
        pytest.skip(platform.disk_problem)
    platform.run_jobs("stats.measure")
    platform.assert_quiet("ParleyDiskNearlyFull")
    usage = shutil.disk_usage(platform.up.home)
    ballast = platform.up.home / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, usage.free - usage.total // 20)
    platform.run_jobs("stats.measure")
    platform.assert_fires("ParleyDiskNearlyFull")
    ballast.unlink()
    platform.run_jobs("stats.measure")
    platform.assert_quiet("ParleyDiskNearlyFull")


def test_lost_backups(platform: FaultyPlatform) -> None:
    platform.run_jobs("backups.measure")
    platform.assert_quiet(*NO_BACKUPS)
    aside = platform.up.home / "aside"
    aside.mkdir()
    moved = [path.rename(aside / path.name) for path in platform.backups.iterdir()]
    try:
        platform.run_jobs("backups.measure")
        platform.assert_fires(*NO_BACKUPS)
    finally:
        for path in moved:
            path.rename(platform.backups / path.name)
    platform.run_jobs("backups.measure")
    platform.assert_quiet(*NO_BACKUPS)


def test_damaged_backup(platform: FaultyPlatform) -> None:
    platform.run_jobs("backups.measure")
    platform.assert_quiet("ParleyDrillFailed")
    dump = max(platform.backups.rglob("*.dump"))
    whole = dump.read_bytes()
    dump.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    try:
        platform.run_jobs("backups.weekly_drill")
        platform.assert_fires("ParleyDrillFailed", during=lambda: platform.run_jobs("backups.measure"))
        platform.run_jobs("doctor.run")
        platform.assert_fires("ParleyCheckBackupDrill")
    finally:
        dump.write_bytes(whole)
    platform.run_jobs("backups.weekly_drill")
    platform.assert_quiet("ParleyDrillFailed", during=lambda: platform.run_jobs("backups.measure"))


def test_long_queue(platform: FaultyPlatform) -> None:
    """More jobs than the worker can run. Beat's job, in the other queue, measures them."""
    platform.assert_quiet("ParleyQueueLong")
    try:
        platform.fill_queue("search.sweep", 3000)
        platform.run_jobs("beat.tick")
        platform.assert_fires("ParleyQueueLong")
    finally:
        platform.purge_queue()
    platform.run_jobs("beat.tick")
    platform.assert_quiet("ParleyQueueLong")


def test_stopped_beat(platform: FaultyPlatform) -> None:
    platform.run_jobs("beat.tick", "stats.measure")
    platform.assert_quiet(*STOPPED_BEAT)
    (beat, *_) = platform.up.processes("tasks.beat")
    beat.send_signal(signal.SIGSTOP)
    try:
        platform.assert_fires(*STOPPED_BEAT)
    finally:
        beat.send_signal(signal.SIGCONT)
    platform.assert_quiet(*STOPPED_BEAT)


def test_stopped_web_server(platform: FaultyPlatform) -> None:
    """Alertmanager sends the page, and holds everything else back."""
    web = platform.up.processes("gunicorn")
    for process in web:
        process.send_signal(signal.SIGSTOP)
    try:
        platform.assert_fires("ParleyDown")
        wait_until(lambda: "ParleyDown" in platform.notifications.names("pages"))
    finally:
        for process in web:
            process.send_signal(signal.SIGCONT)
    platform.assert_quiet("ParleyDown")
    wait_until(lambda: "ParleyDown" in platform.notifications.names("pages", "resolved"))
