"""Generated secrets: random, created once, stored in files with mode 0600 in the home."""

import contextlib
import os
import secrets
from pathlib import Path

from ops.embedded.errors import EmbeddedError
from ops.embedded.site import Site, open_site, translate_os_errors

BYTES = 32


def jwt_secret(home: Path) -> str:
    """Return the generated key for signing tokens: 64 hexadecimal digits, the same at every start.

    Raises `EmbeddedError` if the folder cannot be written or the file is damaged.
    """
    return load_or_create_secret(open_site(home), "jwt_secret")


def load_or_create_secret(site: Site, name: str) -> str:
    """Return the secret `name`, created at first use. Safe for concurrent processes."""
    with translate_os_errors(site.home):
        path = site.folder("keys") / name
        if not path.exists():
            _create(site, path)
        secret = path.read_text().strip()
    if len(secret) != 2 * BYTES:
        raise EmbeddedError(f"{path} is damaged: it must hold {2 * BYTES} characters; restore it from a backup")
    return secret


def _create(site: Site, path: Path) -> None:
    """Write a draft, then link it: the file appears complete, and the first of two writers wins."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            site.give_to_owner(file.fileno())
            file.write(f"{secrets.token_hex(BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process created it first
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
