"""The home of the embedded servers: its folders, and the system user that runs them.

    <home>/          0700, or 0711 if the servers run as another user than its owner
        postgres/    the data folder of PostgreSQL
        redis/       the data folder of Redis
        keys/        passwords and the signing key, one 0600 file each
        run/         lock files and the state of running servers
        log/         one log file per server

PostgreSQL refuses to run as root. If root starts the servers, they run as the owner of the home if that is an ordinary
user, else as `nobody`. If that user cannot enter the home (a clone in a folder with mode 0700), the data is stored
under /var/lib/parley, in a folder named after the home's path. Modes of other folders are never changed.
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

FALLBACK_HOME = Path("/var/lib/parley")
UNPRIVILEGED_USER = "nobody"


class RunAs(TypedDict, total=False):
    """Keyword arguments of subprocess that drop the privileges of root."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class SystemUser:
    """A user of the operating system."""

    uid: int
    gid: int

    def has_permission(self, path: Path, bits: int) -> bool:
        """Return whether the mode of `path` grants `bits` (of 0o7) to this user. Ignores access control lists."""
        status = path.stat()
        if status.st_uid == self.uid:
            return (status.st_mode >> 6) & bits == bits
        if status.st_gid == self.gid:
            return (status.st_mode >> 3) & bits == bits
        return status.st_mode & bits == bits

    def can_enter(self, folder: Path) -> bool:
        """Return whether this user can reach `folder` from the root folder."""
        return all(self.has_permission(step, 0o1) for step in (folder, *folder.parents))


@dataclass(frozen=True)
class Site:
    """A prepared home. `server_user` runs the servers, `owner` owns the other files; None is the current user."""

    home: Path
    server_user: SystemUser | None = None
    owner: SystemUser | None = None

    @property
    def run_as(self) -> RunAs:
        if self.server_user is None:
            return {}
        return {"user": self.server_user.uid, "group": self.server_user.gid, "extra_groups": []}

    def folder(self, name: str) -> Path:
        """Return `<home>/<name>`, created with mode 0700 if missing."""
        path = self.home / name
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
            self.give_to_owner(path)
        return path

    def give_to_owner(self, path: Path | int) -> None:
        if self.owner is not None:
            os.chown(path, self.owner.uid, self.owner.gid)

    def give_to_server(self, path: Path | int) -> None:
        if self.server_user is not None:
            os.chown(path, self.server_user.uid, self.server_user.gid)


def replace_file(path: Path, text: str, site: Site) -> None:
    """Write a server's configuration file, mode 0600, unless it has this text; a full disk leaves the old file."""
    if path.is_file() and path.read_text() == text:
        return
    draft = path.with_name(f"{path.name}.new")
    draft.touch(mode=0o600)
    try:
        draft.write_text(text)
        site.give_to_server(draft)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def translate_os_errors(folder: Path) -> Iterator[None]:
    """Translate an OSError into an `EmbeddedError` that names the path, or at least its folder."""
    try:
        yield
    except OSError as error:
        raise EmbeddedError(
            f"{error.filename or folder}: {error.strerror or error}: the embedded servers use this path; free disk "
            "space, make this user the owner of the folder, or set PARLEY_HOME to another one"
        ) from error


def open_site(home: Path) -> Site:
    """Create `home` if missing and choose the user that runs its servers.

    Raises `EmbeddedError` if the folder cannot be created or, for root, if there is no ordinary user.
    """
    with translate_os_errors(home):
        home = home.expanduser().resolve()
        if os.geteuid() != 0:
            _prepare_folder(home, 0o700)
            return Site(home)
        fallback = FALLBACK_HOME / f"{home.parent.name}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
        if not fallback.exists():
            owner = _owner_of(home)
            user = owner or _unprivileged_user()
            _prepare_folder(home, 0o711, owner)
            if user.can_enter(home):
                return Site(home, user, owner)
            _write_note(home, fallback)
        _prepare_folder(FALLBACK_HOME, 0o755)
        _prepare_folder(fallback, 0o711)
        return Site(fallback, _unprivileged_user())


def _prepare_folder(folder: Path, mode: int, owner: SystemUser | None = None) -> None:
    """Create the folder; set mode and owner if it is new or empty."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        folder.chmod(mode)
        if owner is not None:
            os.chown(folder, owner.uid, owner.gid)


def _owner_of(home: Path) -> SystemUser | None:
    """Return the owner of the home, or of its first existing parent, unless that is root."""
    existing = next(step for step in (home, *home.parents) if step.exists())
    status = existing.stat()
    if status.st_uid == 0 or not stat.S_ISDIR(status.st_mode):
        return None
    try:
        entry = pwd.getpwuid(status.st_uid)
    except KeyError:  # PostgreSQL refuses a user without a name
        return None
    return SystemUser(entry.pw_uid, entry.pw_gid)


def _unprivileged_user() -> SystemUser:
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and this machine has no user {UNPRIVILEGED_USER!r}: run as an "
            "ordinary user"
        ) from None
    return SystemUser(entry.pw_uid, entry.pw_gid)


def _write_note(home: Path, fallback: Path) -> None:
    (home / "MOVED").write_text(
        f"The data is in {fallback}: the embedded servers run as an ordinary user, who cannot enter this folder.\n"
    )
