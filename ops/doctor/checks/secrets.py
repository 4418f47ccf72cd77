"""Weak, shared or readable secrets. Their values are never reported."""

import math
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr
from sqlalchemy import make_url

from app.config import Settings
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.checks.encryption import is_public, peer_address, socket_of
from ops.levels import Level

MIN_BITS = 100  # of entropy; 32 random hex digits have 128
# Parts of keys in examples, in lower case.
EXAMPLE_WORDS = ("change", "secret", "password", "example", "default", "insecure", "replace", "parley", "0123456789")
COMMON_PASSWORDS = frozenset({"", "parley", "postgres", "password", "secret", "admin", "root", "test", "changeme"})
FILE = Path(".env")


@check("settings.secrets", "Are the secrets strong, distinct and private?", severity=Level.CRITICAL)
def secrets(context: CheckContext) -> Iterator[Finding]:
    """Find secrets that can be guessed or that others can read."""
    keys = _keys(context.settings)
    for variable, key in keys:
        if (reason := weakness(key)) is not None:
            yield Finding(
                level=Level.CRITICAL,
                message=f"{variable} can be guessed: {reason}.",
                object=variable,
                evidence={"setting": variable, "characters": len(key)},
                remedy=f"Set {variable} to the output of `openssl rand -hex 32`"
                + (", and keep the old key in JWT_PREVIOUS_KEYS for a week" if variable == "JWT_SECRET_KEY" else ""),
            )
    for value, count in Counter(key for _, key in keys).items():
        if count > 1:
            names = [variable for variable, key in keys if key == value]
            yield Finding(
                level=Level.WARNING,
                message=f"{' and '.join(names)} are the same secret: one leak exposes both.",
                object=" ".join(names),
                evidence={"settings": names},
                remedy="Set each to its own secret",
            )
    yield from _readable(context.settings)
    yield from _broker(context.settings)
    yield from _password(context)


def weakness(key: str) -> str | None:
    """Return why a key is weak, without revealing it; None if it is not."""
    lowered = key.lower()
    if len(set(key)) <= 6 or entropy_bits(key) < MIN_BITS:
        return "it has too few different characters"
    if any(lowered[:length] * (len(key) // length) == lowered[: len(key) // length * length] for length in range(1, 9)):
        return "it repeats a short sequence"
    if (word := next((word for word in EXAMPLE_WORDS if word in lowered), None)) is not None and not _is_hex(key):
        return f"it looks like an example ({word})"
    return None


def entropy_bits(key: str) -> float:
    """Return an upper bound of the key's entropy: that of its character frequencies."""
    counts = Counter(key)
    return -sum(count * math.log2(count / len(key)) for count in counts.values())


def _keys(settings: Settings) -> list[tuple[str, str]]:
    secrets_by_name: list[tuple[str, SecretStr | None]] = [
        ("JWT_SECRET_KEY", settings.auth.jwt_secret_key),
        ("AUDIT_KEY", settings.auth.audit_key),
        ("SECRETS_KEY", settings.mcp_servers.secrets_key),
        ("OPS_TOKEN", settings.server.ops_token),
        *(("JWT_PREVIOUS_KEYS", key) for key in settings.auth.jwt_previous_keys),
        *(("AUDIT_PREVIOUS_KEYS", key) for key in settings.auth.audit_previous_keys),
        *(("SECRETS_PREVIOUS_KEYS", key) for key in settings.mcp_servers.secrets_previous_keys),
    ]
    return [(variable, key.get_secret_value()) for variable, key in secrets_by_name if key is not None]


def _is_hex(key: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in key)


def _readable(settings: Settings) -> Iterator[Finding]:
    key_file = settings.backups.age_identity_file
    for file in (FILE, *([key_file] if key_file is not None else [])):
        try:
            mode = file.stat().st_mode
        except OSError:
            continue
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            yield Finding(
                level=Level.WARNING,
                message=f"All users of this host can read the file {file} and the secrets in it.",
                object=str(file),
                evidence={"mode": stat.filemode(mode)},
                remedy=f"chmod 600 {file.absolute()}",
            )


def _broker(settings: Settings) -> Iterator[Finding]:
    if settings.jobs.broker_url is None:
        return
    url = urlsplit(settings.jobs.broker_url.get_secret_value())
    if (url.password or "") in COMMON_PASSWORDS | {"guest"} and url.hostname not in ("127.0.0.1", "::1", "localhost"):
        yield Finding(
            level=Level.WARNING,
            message="The broker has no password or a common one: every client that reaches it can run jobs.",
            object="CELERY_BROKER_URL",
            evidence={"host": url.hostname, "password": "set" if url.password else "none"},
            remedy="Set a strong password there and in CELERY_BROKER_URL",
        )


def _password(context: CheckContext) -> Iterator[Finding]:
    url = make_url(str(context.settings.database.url))
    if url.password is None or str(url.password).lower() not in COMMON_PASSWORDS | {str(url.username).lower()}:
        return
    if context.open_connection is None:
        return  # reported by connection.reachable
    public = is_public(peer_address(socket_of(context.connection)))
    yield Finding(
        level=Level.CRITICAL if public else Level.WARNING,
        message="The database role of DATABASE_URL has a common password.",
        object="DATABASE_URL",
        evidence={"role": url.username, "setting": "DATABASE_URL"},
        remedy="Set another one: \\password in psql, then in DATABASE_URL",
    )
