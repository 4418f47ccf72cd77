"""Types of settings: the base class of a group, and validated URLs, origins, hours and lists."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr


class Group(BaseModel):
    """Base class of a group of settings; each field is read from the variable named by its `validation_alias`."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, validate_default=True)


ProviderName = Literal["demo", "openai", "openrouter", "compatible"]

# Finds the port as SQLAlchemy does, in a URL whose password may contain almost any character.
_PORT = re.compile(r"(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?]+\]|[^/:?]+)?(?::(?P<port>[^/?]*))?(?:[/?].*)?", re.DOTALL)


def _psycopg2_url(url: str) -> str:
    """Return `url` with the driver psycopg2: SQLAlchemy 2.1 uses psycopg 3 for a plain `postgresql://`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres", "postgresql+psycopg2"):
        raise ValueError("must look like postgresql://user:password@host:port/database")
    match = _PORT.fullmatch(rest)
    if match is None or not re.fullmatch("[0-9]{0,5}", match["port"] or ""):
        raise ValueError("has a port that is not a number; in a password, write / as %2F, @ as %40, : as %3A")
    return f"postgresql+psycopg2://{rest}"


PostgresUrl = Annotated[str, AfterValidator(_psycopg2_url)]


def _split(value: Any) -> Any:
    """Split `a, b` at its commas; a list is returned unchanged."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _check_key_length(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < 32:
        raise ValueError("must have at least 32 characters; keys are separated by commas")
    return key


_ORIGIN = r"[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"


def _origin(origin: str) -> str:
    """Raise ValueError unless `origin` is spelled as browsers send it: any other spelling never matches."""
    if origin != "*" and not re.fullmatch(_ORIGIN, origin):
        raise ValueError("must look like https://host or http://host:port, in lower case, without a path")
    if re.fullmatch("http://.*:80|https://.*:443", origin):
        raise ValueError("must omit the default port of its scheme, as browsers do")
    return origin


def _check_wildcard(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins and len(origins) > 1:
        raise ValueError("* allows every origin, so it must be the only one")
    return origins


def _header_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'+.^_`|~-]+", name):
        raise ValueError("must be names of headers, separated by commas; * is not one")
    return name


def _host_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}", name):
        raise ValueError("must be names or addresses of hosts, without scheme, port and *, separated by commas")
    return name


PreviousKeys = Annotated[tuple[Annotated[SecretStr, AfterValidator(_check_key_length)], ...], BeforeValidator(_split)]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...],
    BeforeValidator(_split),
    AfterValidator(_check_wildcard),
]
HostNames = Annotated[tuple[Annotated[str, AfterValidator(_host_name)], ...], BeforeValidator(_split)]
HeaderNames = Annotated[tuple[Annotated[str, AfterValidator(_header_name)], ...], BeforeValidator(_split)]
Fallback = Annotated[tuple[ProviderName, ...], BeforeValidator(_split)]
ProviderNames = Annotated[tuple[Literal["openai", "openrouter", "compatible"], ...], BeforeValidator(_split)]


_HTTP_URL = r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?"


def _http_url(url: str) -> str:
    if not re.fullmatch(_HTTP_URL, url):
        raise ValueError("must look like https://host/path, with a host in lower case, without user, query or fragment")
    return url


HttpUrl = Annotated[str, AfterValidator(_http_url)]
HttpUrls = Annotated[tuple[HttpUrl, ...], BeforeValidator(_split)]


def _broker_url(url: SecretStr) -> SecretStr:
    """Accept Redis and AMQP only: kombu's other transports do not redeliver the messages of a dead worker."""
    scheme, separator, _ = url.get_secret_value().partition("://")
    if not separator or scheme not in ("redis", "rediss", "amqp", "amqps"):
        raise ValueError("must look like redis://:password@host:port/0 or amqp://user:password@host:port/vhost")
    return _check_port(url)


def _redis_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://")):
        raise ValueError("must look like redis://:password@host:port/0")
    return _check_port(url)


def _check_port(url: SecretStr) -> SecretStr:
    try:
        _ = urlsplit(url.get_secret_value()).port
    except ValueError:
        raise ValueError("has an invalid port; in a password, write / as %2F, @ as %40") from None
    return url


BrokerUrl = Annotated[SecretStr, AfterValidator(_broker_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]


def _store_url(url: str) -> str:
    """Accept URLs without credentials, because the URL is shown and logged; keys have their own settings."""
    if re.fullmatch("file:///.+", url) or re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?", url):
        return url
    raise ValueError("must look like file:///folder, with three slashes, or s3://bucket/prefix, without credentials")


def _drill_url(url: str) -> str:
    return url if url == "embedded" else _psycopg2_url(url)


def _hours(hours: str) -> str:
    match = re.fullmatch("([01][0-9]|2[0-3])-([01][0-9]|2[0-4])", hours)
    if match is None or match[1] == match[2]:
        raise ValueError("must be two different hours of the day, such as 01-05 or 22-04")
    return hours


def _search_path(path: str) -> str:
    """Return the names, separated by a comma and a space. Raises ValueError for anything but names of schemas."""
    names = [name.strip() for name in path.split(",")]
    if not all(re.fullmatch(r'[a-z_][a-z0-9_$]{0,62}|"[^"\\\x00]{1,63}"', name) for name in names):
        raise ValueError('must be names of schemas, separated by commas; one with upper case stands in "')
    return ", ".join(names)


SearchPath = Annotated[str, AfterValidator(_search_path)]


def _age_recipient(text: str) -> str:
    from pyrage import RecipientError, ssh, x25519  # only where backups are encrypted

    if text.startswith("AGE-SECRET-KEY-"):
        raise ValueError("must be public keys; one of them is a private key, which must not be on this server")
    try:
        (ssh.Recipient if text.startswith("ssh-") else x25519.Recipient).from_str(text)
    except RecipientError:
        raise ValueError("must be public keys of age (age1...) or SSH (ssh-ed25519 ...), separated by commas") from None
    return text


AgeRecipients = Annotated[tuple[Annotated[str, AfterValidator(_age_recipient)], ...], BeforeValidator(_split)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
DrillUrl = Annotated[str, AfterValidator(_drill_url)]
Hours = Annotated[str, AfterValidator(_hours)]
