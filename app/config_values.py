"""A group of settings, and kinds of them that no plain type describes: URLs, origins, lists. Each refuses in plain
words."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Group(BaseSettings):
    """One group of settings. A field is read from the variable of its `validation_alias`."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)


ProviderName = Literal["demo", "openai", "openrouter", "compatible"]


# What SQLAlchemy reads as the port of a URL; a password may hold nearly anything.
_PORT = re.compile(r"(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?]+\]|[^/:?]+)?(?::(?P<port>[^/?]*))?(?:[/?].*)?", re.DOTALL)


def _psycopg2_url(url: str) -> str:
    """A bare `postgresql://` names psycopg 3 to SQLAlchemy 2.1; Parley drives psycopg2."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres", "postgresql+psycopg2"):
        raise ValueError("must look like postgresql://user:password@host:port/database")
    found = _PORT.fullmatch(rest)
    if found is None or not re.fullmatch("[0-9]{0,5}", found["port"] or ""):
        raise ValueError("has a port that is no number; in a password, write / as %2F, @ as %40, : as %3A")
    return f"postgresql+psycopg2://{rest}"


PostgresUrl = Annotated[str, AfterValidator(_psycopg2_url)]


def _split(value: Any) -> Any:
    """`a, b` as its parts; what is a list already stays one."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _long_enough(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < 32:
        raise ValueError("must have at least 32 characters; a comma ends a key")
    return key


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def _origin(origin: str) -> str:
    """Browsers send origins in one spelling; any other would never match, and nobody would see why."""
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise ValueError("must look like https://host or http://host:port, in small letters, with nothing behind it")
    if re.fullmatch("http://.*:80|https://.*:443", origin):
        raise ValueError("must leave out the port that its scheme has anyway, as browsers do")
    return origin


def _not_with_all(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins and len(origins) > 1:
        raise ValueError("* stands for every origin, so it stands alone")
    return origins


# pydantic-settings would read a list as JSON.
PreviousKeys = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_long_enough)], ...], NoDecode, BeforeValidator(_split)
]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...],
    NoDecode,
    BeforeValidator(_split),
    AfterValidator(_not_with_all),
]
Fallback = Annotated[tuple[ProviderName, ...], NoDecode, BeforeValidator(_split)]


def _broker_url(url: SecretStr) -> SecretStr:
    """Only brokers that give a dead worker's messages to another one; kombu's file and SQL transports do not."""
    scheme, separator, _ = url.get_secret_value().partition("://")
    if not separator or scheme not in ("redis", "rediss", "amqp", "amqps"):
        raise ValueError("must look like redis://:password@host:port/0 or amqp://user:password@host:port/vhost")
    return _with_a_port(url)


def _redis_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://")):
        raise ValueError("must look like redis://:password@host:port/0")
    return _with_a_port(url)


def _with_a_port(url: SecretStr) -> SecretStr:
    try:
        _ = urlsplit(url.get_secret_value()).port
    except ValueError:
        raise ValueError("has no number up to 65535 as its port; in a password, write / as %2F, @ as %40") from None
    return url


BrokerUrl = Annotated[SecretStr, AfterValidator(_broker_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]


def _backup_url(url: str) -> str:
    """Keys have settings of their own: a URL is shown and logged."""
    if re.fullmatch("file:///.+", url) or re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?", url):
        return url
    raise ValueError("must look like file:///folder, with three slashes, or s3://bucket/prefix, without keys in it")


def _drill_url(url: str) -> str:
    return url if url == "embedded" else _psycopg2_url(url)


def _hours(hours: str) -> str:
    found = re.fullmatch("([01][0-9]|2[0-3])-([01][0-9]|2[0-4])", hours)
    if found is None or found[1] == found[2]:
        raise ValueError("must be two different hours of the day, such as 01-05 or 22-04")
    return hours


BackupUrl = Annotated[str, AfterValidator(_backup_url)]
DrillUrl = Annotated[str, AfterValidator(_drill_url)]
Hours = Annotated[str, AfterValidator(_hours)]
