"""Secrets that Parley makes for itself: random, made once, kept in 0600 files under the home."""

import contextlib
import os
import secrets
from pathlib import Path

from ops.embedded.errors import EmbeddedError
from ops.embedded.site import Site, explained, open_site

BYTES = 32


def jwt_secret(home: Path) -> str:
    """The key that signs tokens when none is set: 64 hexadecimal digits, the same at every start.

    Raises `EmbeddedError` when the folder cannot be written or the file holds something else.
    """
    return kept_secret(open_site(home), "jwt_secret")


def kept_secret(site: Site, name: str) -> str:
    """The secret of that name, made on first use. Safe against several processes asking at once."""
    with explained(site.home):
        path = site.folder("keys") / name
        if not path.exists():
            _make(site, path)
        secret = path.read_text().strip()
    if len(secret) != 2 * BYTES:
        raise EmbeddedError(f"{path} is damaged: it should hold {2 * BYTES} characters; restore it from a backup")
    return secret


def _make(site: Site, path: Path) -> None:
    """Write beside, then link: the file appears whole, and the first of two writers wins."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            site.give_to_owner(file.fileno())
            file.write(f"{secrets.token_hex(BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first; its secret counts
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
