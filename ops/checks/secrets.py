"""Secrets that are none: too simple, everybody's, used twice, or left lying about. Their values are never told."""

import math
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr
from sqlalchemy import make_url

from app.config import Settings
from ops.checks.encryption import is_public, peer_address, socket_of
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

ENOUGH_BITS = 100  # of chance that the characters of a key can hold; 32 random hex digits hold 128
# What is found in examples, in any spelling.
USUAL = ("change", "secret", "password", "example", "default", "insecure", "replace", "parley", "0123456789")
USUAL_PASSWORDS = frozenset({"", "parley", "postgres", "password", "secret", "admin", "root", "test", "changeme"})
FILE = Path(".env")


def secrets(probe: Probe) -> Iterator[Finding]:
    """A finding for each secret that others may guess or read."""
    keys = _keys(probe.settings)
    for variable, key in keys:
        if (why := weakness(key)) is not None:
            yield Finding(
                level=Level.CRITICAL,
                what=f"{variable} can be guessed: {why}.",
                evidence={"setting": variable, "characters": len(key)},
                remedy=f"Set {variable} to what `openssl rand -hex 32` says"
                + (", and keep the old one in JWT_PREVIOUS_KEYS for a week" if variable == "JWT_SECRET_KEY" else ""),
            )
    for value, times in Counter(key for _, key in keys).items():
        if times > 1:
            names = [variable for variable, key in keys if key == value]
            yield Finding(
                level=Level.WARNING,
                what=f"{' and '.join(names)} are the same secret: who is given one has the other.",
                evidence={"settings": names},
                remedy="Set each to a secret of its own",
            )
    yield from _readable()
    yield from _broker(probe.settings)
    yield from _password(probe)


def weakness(key: str) -> str | None:
    """Why a key is no good, in words that do not tell it; None if it may be."""
    lowered = key.lower()
    if len(set(key)) <= 6 or bits(key) < ENOUGH_BITS:
        return "it has too few different characters"
    if any(lowered[:length] * (len(key) // length) == lowered[: len(key) // length * length] for length in range(1, 9)):
        return "it repeats itself"
    if (word := next((word for word in USUAL if word in lowered), None)) is not None and not _is_hex(key):
        return f"it looks like an example ({word})"
    return None


def bits(key: str) -> float:
    """An upper bound of the chance in it: what its characters would hold if each were drawn as often as it is there."""
    counts = Counter(key)
    return -sum(count * math.log2(count / len(key)) for count in counts.values())


def _keys(settings: Settings) -> list[tuple[str, str]]:
    found: list[tuple[str, SecretStr | None]] = [
        ("JWT_SECRET_KEY", settings.auth.jwt_secret_key),
        ("OPS_TOKEN", settings.server.ops_token),
        *(("JWT_PREVIOUS_KEYS", key) for key in settings.auth.jwt_previous_keys),
    ]
    return [(variable, key.get_secret_value()) for variable, key in found if key is not None]


def _is_hex(key: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in key)


def _readable() -> Iterator[Finding]:
    try:
        mode = FILE.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        yield Finding(
            level=Level.WARNING,
            what="Everybody on this host can read the file .env, and what secrets are in it.",
            evidence={"mode": stat.filemode(mode)},
            remedy=f"chmod 600 {FILE.absolute()}",
        )


def _broker(settings: Settings) -> Iterator[Finding]:
    if settings.jobs.broker_url is None:
        return
    url = urlsplit(settings.jobs.broker_url.get_secret_value())
    if (url.password or "") in USUAL_PASSWORDS | {"guest"} and url.hostname not in ("127.0.0.1", "::1", "localhost"):
        yield Finding(
            level=Level.WARNING,
            what="The broker takes messages without a password worth the name: whoever reaches it can run jobs.",
            evidence={"host": url.hostname, "password": "set" if url.password else "none"},
            remedy="Give it a password, and put it into CELERY_BROKER_URL",
        )


def _password(probe: Probe) -> Iterator[Finding]:
    url = make_url(str(probe.settings.database.url))
    if url.password is None or str(url.password).lower() not in USUAL_PASSWORDS | {str(url.username).lower()}:
        return
    if probe.opened is None:
        return  # a database that is away is another check's affair
    public = is_public(peer_address(socket_of(probe.connection)))
    yield Finding(
        level=Level.CRITICAL if public else Level.WARNING,
        what="The database's account has a password that is everybody's first guess.",
        evidence={"account": url.username, "setting": "DATABASE_URL"},
        remedy="Set another, here and there: \\password in psql, then DATABASE_URL",
    )
