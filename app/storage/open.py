"""Opening a store by its URL. The settings of the S3 client are read here and nowhere else."""

from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from app.storage.base import Store
from app.storage.folder import FolderStore


class S3Settings(Protocol):
    """The group of settings that says how to reach S3 or a compatible service."""

    @property
    def s3_endpoint(self) -> str | None: ...
    @property
    def s3_region(self) -> str | None: ...
    @property
    def s3_access_key_id(self) -> SecretStr | None: ...
    @property
    def s3_secret_access_key(self) -> SecretStr | None: ...


def open_store(url: str, settings: S3Settings, *, prefix: str, quick: bool = False) -> Store:
    """Return the store at `url`, `file:///folder` or `s3://bucket/prefix`, without connecting to it.

    The names of the settings begin with `prefix`, such as BACKUP, for error messages. With `quick`, S3 gets one
    attempt of 4 seconds per request instead of three of 60. Raises `StorageUnavailable` for S3 settings that boto3
    does not accept.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FolderStore(Path(unquote(parts.path)), setting=f"{prefix}_URL")
    from app.storage.s3 import S3Store  # boto3 is slow to import, and a folder does not need it

    key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    return S3Store(
        parts.netloc,
        parts.path.strip("/"),
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key=(key.get_secret_value(), secret.get_secret_value()) if key and secret else None,
        settings_prefix=prefix,
        quick=quick,
    )
