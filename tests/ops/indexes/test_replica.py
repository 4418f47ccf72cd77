"""The index checks with a real replica."""

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import NullPool, create_engine, make_url

from app.config import Settings
from app.extensions import Base
from app.factory import create_app
from ops import embedded
from ops.doctor.index_registry import INDEX_CHECKS
from ops.embedded.binaries import find_postgres
from ops.embedded.server import run_tool
from ops.embedded.site import open_site
from ops.errors import UnknownState
from ops.indexes.apply import apply
from ops.indexes.checks import unused as unused_check
from ops.indexes.checks.unused import unused
from ops.indexes.planning import make_plan
from tests.ops.conftest import SECONDS
from tests.ops.indexes.conftest import EXTENSIONS, IndexDatabase, open_database
from tests.ops.installation import run_on
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def replicated(home: Path, settings: Settings) -> Iterator[tuple[IndexDatabase, IndexDatabase]]:
    """Start a primary and a replica as separate servers."""
    with embedded.lease_postgres(home, durable=False) as lease, open_database(lease.url, settings) as primary:
        engine = create_engine(lease.url, poolclass=NullPool)
        Base.metadata.create_all(engine)
        for extension in EXTENSIONS:
            primary.run(f"CREATE EXTENSION IF NOT EXISTS {extension}")
        site, copy = open_site(home), open_site(home).home / "replica"
        program = find_postgres(site, int((site.home / "postgres" / "PG_VERSION").read_text()))
        copy.mkdir(mode=0o700)
        site.give_to_server(copy)
        url = make_url(lease.url)
        conninfo = f"host={url.host} port={url.port} user={url.username} password={url.password}"
        done = run_tool(
            site, [program.folder / "pg_basebackup", "-d", conninfo, "-D", copy, "-R", "-c", "fast"], seconds=60
        )
        assert done.returncode == 0, done.stderr
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = subprocess.Popen(
            [str(program.folder / "postgres"), "-D", str(copy), "-p", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **site.run_as,
        )  # fmt: skip
        try:
            replica_url = url.set(port=port).render_as_string(hide_password=False)
            wait_until(lambda: _is_reachable(replica_url))
            with open_database(replica_url, settings) as replica:
                yield primary, replica
        finally:
            server.terminate()
            server.wait(SECONDS)


def _is_reachable(url: str) -> bool:
    try:
        psycopg2.connect(url.replace("+psycopg2", "")).close()
    except psycopg2.OperationalError:
        return False
    return True


def check_replica_scans_count(primary: IndexDatabase, replica: IndexDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_check, "COUNTED_FOR", timedelta())
    flush = "SELECT pg_stat_force_next_flush()"
    primary.run("CREATE INDEX read_there ON users (name)", "CREATE INDEX read_nowhere ON users (created_at)", flush)
    lsn = primary.value("SELECT pg_current_wal_flush_lsn()")
    wait_until(lambda: replica.value("SELECT pg_last_wal_replay_lsn() >= %(lsn)s", lsn=lsn))
    replica.run("SET enable_seqscan = off", "SELECT FROM users WHERE name = 'x'", flush)

    def unused_names(url: str) -> list[str]:
        database = primary.settings.database.model_copy(update={"replica_url": url})
        context = replace(primary.context, settings=replace(primary.settings, database=database))
        return [finding.evidence["index"] for finding in unused(context)]

    found = unused_names(replica.url)
    assert "public.read_nowhere" in found
    assert "public.read_there" not in found
    with pytest.raises(UnknownState, match="names the primary itself"):
        unused_names(primary.url)
    with pytest.raises(UnknownState, match="cannot be reached"):
        unused_names(make_url(replica.url).set(port=1).render_as_string(hide_password=False))
    primary.run("DROP INDEX read_there", "DROP INDEX read_nowhere")


def test_replica_is_checked_and_reports_what_is_unknown(
    replicated: tuple[IndexDatabase, IndexDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, replica = replicated
    primary.run("CREATE INDEX twice ON turns (user_id, conversation_id)")
    lsn = primary.value("SELECT pg_current_wal_flush_lsn()")
    wait_until(lambda: replica.value("SELECT pg_last_wal_replay_lsn() >= %(lsn)s", lsn=lsn))
    messages = {check.id: [finding.message for finding in check.function(replica.context)] for check in INDEX_CHECKS}
    assert {name: len(findings) for name, findings in messages.items() if findings} == {"indexes.duplicate": 1}

    monkeypatch.setattr(unused_check, "MIN_BYTES", 1)
    primary.run("INSERT INTO job_runs (id, job, status) VALUES (gen_random_uuid(), 'x', 'running')")
    for database, why in ((replica, "this is a replica"), (primary, "but a replica has its own statistics")):
        with pytest.raises(UnknownState, match=why):
            list(unused(database.context))

    check_replica_scans_count(primary, replica, monkeypatch)

    plan = make_plan(replica.context)
    flask_app = create_app(replica.settings)
    with flask_app.app_context(), pytest.raises(UnknownState, match="is a replica, which is read-only"):
        apply(plan=plan, now=True)
    flask_app = create_app(replace(primary.settings))
    with flask_app.app_context():
        assert [step.outcome for step in apply(plan=plan, now=True).steps] == ["done"]
    assert run_on(primary.owner, "SELECT to_regclass('twice')") == [(None,)]
