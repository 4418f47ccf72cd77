"""Faults of jobs, providers, settings, the audit, backups, the archival and files."""

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from app.jobs import MAINTENANCE
from ops import embedded
from ops.archive import verify
from ops.backup.errors import BackupError
from ops.backup.scheduled import drill_or_fail
from tests.bundling import archive_all, make_idle, numbered_messages
from tests.factories import insert_user
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.proxy import Proxy
from tests.ops.backup import damage
from tests.ops.conftest import temporary_home
from tests.ops.doctor.alerts.site import Site, fault
from tests.ops.doctor.conftest import DoctorInstall
from tests.ops.doctor.rows import add_run
from tests.ops.doctor.test_audit_seals import act, ids, seal_events
from tests.ops.doctor.test_jobs import SCHEDULED

Steps = Generator[DoctorInstall | None, None, None]
DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
KEY = SecretStr("k" * 20 + "0123456789abcdefGHIJKLMNOP")


@fault("beat.alive")
def silent_beat(site: Site) -> Steps:
    install = site.make()
    add_run(install, "beat.tick", SECOND)
    yield install
    install.run("DELETE FROM job_runs")
    add_run(install, "beat.tick", 10 * MINUTE)
    yield None


@fault("jobs.failed")
def failing_job(site: Site) -> Steps:
    install = site.make()
    add_run(install, "job_runs.purge", 5 * DAY)
    yield install
    for days in (4, 3, 2):
        add_run(install, "job_runs.purge", days * DAY, "failed", reason="the disk is full")
    yield None


@fault("jobs.overdue")
def overdue_job(site: Site) -> Steps:
    install = site.make()
    for job in SCHEDULED:
        add_run(install, job.name, SECOND)
    yield install
    install.run("DELETE FROM job_runs WHERE job = 'sessions.purge_expired'")
    add_run(install, "sessions.purge_expired", 6 * DAY)
    yield None


def _broker(site: Site) -> tuple[Proxy, str, str]:
    """Start a Redis; return a proxy to it, the URL through the proxy, and its own URL."""
    home = site.stack.enter_context(temporary_home())
    lease = site.stack.enter_context(embedded.lease_redis(home, durable=False))
    wire, url = site.proxy(lease.url)
    return wire, url, lease.url


@fault("queue.broker")
def unreachable_broker(site: Site) -> Steps:
    wire, url, _ = _broker(site)
    yield site.make(jobs={"broker_url": SecretStr(url)})
    wire.cut()
    yield None


@fault("queue.waiting")
def long_queue(site: Site) -> Steps:
    _, _, url = _broker(site)
    yield site.make(jobs={"broker_url": SecretStr(url)})
    with redis.Redis.from_url(url) as client:
        client.rpush(MAINTENANCE, *range(10_001))
    yield None


@fault("provider.reachable")
def failing_provider(site: Site) -> Steps:
    upstream = site.stack.enter_context(Upstream())
    provider = {"name": "compatible", "openai_base_url": upstream.base_url, "openai_api_key": KEY}
    yield site.make(provider=provider)
    upstream.models = scripts.api_error(500)
    yield None


@fault("settings.contradictions")
def key_in_plain_text(site: Site) -> Steps:
    provider: dict[str, Any] = {"name": "compatible", "openai_api_key": KEY}
    yield site.make(provider={**provider, "openai_base_url": "https://ai.example.org/v1"})
    yield site.make(provider={**provider, "openai_base_url": "http://ai.example.org/v1"})


@fault("settings.secrets")
def weak_secret(site: Site) -> Steps:
    yield site.make(auth={"jwt_secret_key": SecretStr("9f86d081884c7d659a2feaa0c55ad015")})
    yield site.make(auth={"jwt_secret_key": SecretStr("hunter2-" * 5)})


def _forged(site: Site) -> Steps:
    install = site.make()
    act(install, 3)
    seal_events(install, 3)
    yield install
    install.run(f"DELETE FROM audit_events WHERE id = '{ids(install)[1]}'")
    yield None


fault("audit.seals")(_forged)
fault("audit.history")(_forged)


@fault("backup.recent")
def no_backup(site: Site) -> Steps:
    install = site.make(backups={"url": site.folder.as_uri()})
    user = insert_user(install.flask_app, site.engine(install))
    yield install
    install.run(f"UPDATE users SET created_at = now() - interval '3 days' WHERE id = '{user.id}'")
    yield None


@fault("backup.drill")
def damaged_backup(site: Site) -> Steps:
    install = site.make(backups={"url": site.folder.as_uri()})
    created = install.call("backup", "create")
    assert created.exit_code == 0, created.output
    with install.flask_app.app_context():
        drill_or_fail()
    yield install
    damage.flip_bit(site.folder)
    with install.flask_app.app_context(), pytest.raises(BackupError, match="is damaged"):
        drill_or_fail()
    yield None


@fault("backup.wal")
def no_archive_command(site: Site) -> Steps:
    install = site.own_server()
    yield install
    install.run("ALTER SYSTEM SET archive_command = ''", "SELECT pg_reload_conf()")
    yield site.own_server()
    install.run("ALTER SYSTEM SET archive_command = 'true'", "SELECT pg_reload_conf()")


@fault("archive.backlog")
def late_archival(site: Site) -> Steps:
    install = site.make()
    engine = site.engine(install)
    user = insert_user(install.flask_app, engine)
    conversation = make_idle(engine, user, numbered_messages(3))
    install.run(f"UPDATE conversations SET updated_at = now(), created_at = now() WHERE id = '{conversation}'")
    yield install
    late = "now() - interval '100 days'"
    install.run(f"UPDATE conversations SET updated_at = {late}, created_at = {late} WHERE id = '{conversation}'")
    yield None


@fault("archive.bundles")
def damaged_bundle(site: Site) -> Steps:
    install = site.make()
    engine = site.engine(install)
    conversation = make_idle(engine, insert_user(install.flask_app, engine), numbered_messages(3))
    archive_all(install.flask_app)
    yield install
    install.run(
        "UPDATE conversation_archives SET bundle = set_byte(bundle, 30, get_byte(bundle, 30) # 4)"
        f" WHERE conversation_id = '{conversation}'"
    )
    with install.flask_app.app_context():
        verify.run_daily_verification()
    yield None


@fault("files.contents")
def lost_object(site: Site) -> Steps:
    store = site.folder / "store"
    store.mkdir()
    install = site.make(files={"url": store.as_uri()})
    user = insert_user(install.flask_app, site.engine(install))
    response = install.flask_app.test_client().put("/api/files?name=a.txt", data=b"text", headers=user.headers)
    assert response.status_code == 201, response.text
    yield install
    for path in store.iterdir():
        path.unlink()
    yield None
