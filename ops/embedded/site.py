"""Where the embedded servers live, and as whom they run.

    <home>/          0700, or 0711 where the servers run as another user than the one who owns it
        postgres/    the data folder of PostgreSQL
        redis/       the data folder of Redis
        keys/        passwords and the signing key, one 0600 file each
        run/         lock files and the state of running servers
        log/         one log a server

PostgreSQL refuses to run as root. Started by root, the servers run as the owner of the home if that is an ordinary
user, else as `nobody`. Where that user cannot enter the home (a clone under a 0700 folder) everything is kept under
/var/lib/parley instead, in a folder named after the home's path; no mode of a folder that is not ours is changed.
"""

import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ops.embedded.errors import EmbeddedError

REFUGE = Path("/var/lib/parley")
UNPRIVILEGED = "nobody"


class RunAs(TypedDict, total=False):
    """Keyword arguments of subprocess that drop the privileges of root."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int

    def may(self, path: Path, wanted: int) -> bool:
        """Whether the mode of `path` grants `wanted` (bits of 0o7) to this account. Access lists are not consulted."""
        status = path.stat()
        if status.st_uid == self.uid:
            return (status.st_mode >> 6) & wanted == wanted
        if status.st_gid == self.gid:
            return (status.st_mode >> 3) & wanted == wanted
        return status.st_mode & wanted == wanted

    def may_enter(self, folder: Path) -> bool:
        """Whether this account can reach `folder` from the root."""
        return all(self.may(step, 0o1) for step in (folder, *folder.parents))


@dataclass(frozen=True)
class Site:
    """A prepared home. `account` is whom the servers run as, `owner` whose the rest is; None is the present user."""

    home: Path
    account: Account | None = None
    owner: Account | None = None

    @property
    def run_as(self) -> RunAs:
        if self.account is None:
            return {}
        return {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}

    def folder(self, name: str) -> Path:
        """`<home>/<name>`, private to the owner, made if missing."""
        path = self.home / name
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
            self.give_to_owner(path)
        return path

    def give_to_owner(self, path: Path | int) -> None:
        if self.owner is not None:
            os.chown(path, self.owner.uid, self.owner.gid)

    def give_to_server(self, path: Path | int) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into one line that names the path, or at least the folder it is in."""
    try:
        yield
    except OSError as error:
        raise EmbeddedError(
            f"{error.filename or folder}: {error.strerror or error}: Parley keeps its embedded servers there; "
            "make room or give this user the folder, or set PARLEY_HOME to another one"
        ) from error


def open_site(home: Path) -> Site:
    """Prepare `home` (made if missing) and settle as whom its servers run.

    Raises `EmbeddedError` when the folder cannot be made or, for root, when no ordinary account can be found.
    """
    with explained(home):
        home = home.expanduser().resolve()
        if os.geteuid() != 0:
            _make(home, 0o700)
            return Site(home)
        refuge = REFUGE / f"{home.parent.name}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
        if not refuge.exists():
            owner = _owner_account(home)
            account = owner or _unprivileged()
            _make(home, 0o711, owner)
            if account.may_enter(home):
                return Site(home, account, owner)
            _leave_a_note(home, refuge)
        _make(REFUGE, 0o755)
        _make(refuge, 0o711)
        return Site(refuge, _unprivileged())


def _make(folder: Path, mode: int, owner: Account | None = None) -> None:
    """A new or empty folder gets `mode` and `owner`; one with something in it stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        folder.chmod(mode)
        if owner is not None:
            os.chown(folder, owner.uid, owner.gid)


def _owner_account(home: Path) -> Account | None:
    """The ordinary user to whom the home, or the folder it will be made in, belongs."""
    existing = next(step for step in (home, *home.parents) if step.exists())
    status = existing.stat()
    if status.st_uid == 0 or not stat.S_ISDIR(status.st_mode):
        return None
    try:
        entry = pwd.getpwuid(status.st_uid)
    except KeyError:  # PostgreSQL refuses a user without a name
        return None
    return Account(entry.pw_uid, entry.pw_gid)


def _unprivileged() -> Account:
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root and this machine has no user {UNPRIVILEGED!r}: run as an ordinary user"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def _leave_a_note(home: Path, refuge: Path) -> None:
    (home / "MOVED").write_text(
        f"The data is in {refuge}: the embedded servers run as an ordinary user, who cannot enter this folder.\n"
    )
