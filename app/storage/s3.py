"""A store in a bucket of S3 or a compatible service.

Files are written as multipart uploads, so an unfinished file is never visible. They are read in pieces of large ranges;
a connection that breaks is opened again where it broke.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from urllib3.exceptions import HTTPError

from app.storage.base import CHUNK, Store, StoredFile
from app.storage.errors import FileNotFoundInStorage, StorageUnavailable, StoredFileChanged
from app.storage.s3_errors import describe, error_code

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef, MultipartUploadTypeDef

# S3 allows 10,000 parts of a file. A part has 8 MiB, and 8 MiB more after every thousand parts: 440 GB in all. It is in
# memory twice while it is sent, and each upload of a user has one.
PART_BYTES = 8 * 1024 * 1024
GROW_EVERY_PARTS = 1000
RANGE_BYTES = 8 * 1024 * 1024
ATTEMPTS = 3
CONNECT_SECONDS, READ_SECONDS = 5, 60
QUICK_SECONDS = 4

T = TypeVar("T")


class S3Store(Store):
    """A store under the `prefix` of a bucket: a path without slashes at its ends, or empty.

    `access_key` is an id and a secret; None leaves the lookup of credentials to boto3. `settings_prefix` begins the
    names of settings in error messages.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        settings_prefix: str,
        endpoint: str | None = None,
        region: str | None = None,
        access_key: tuple[str, str] | None = None,
        quick: bool = False,
    ) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._location = f"{self.url} at {endpoint}" if endpoint else self.url
        self._bucket = bucket
        self._key_prefix = f"{prefix}/" if prefix else ""
        self._settings_prefix = settings_prefix
        key, secret = access_key or (None, None)
        with self._translate_errors("opening it"):
            self._client = boto3.client(
                "s3",
                endpoint_url=endpoint,
                region_name=region or ("us-east-1" if endpoint else None),
                aws_access_key_id=key,
                aws_secret_access_key=secret,
                config=_client_config(custom_endpoint=endpoint is not None, quick=quick),
            )

    def below(self, name: str) -> "S3Store":
        inside = copy(self)
        inside.url, inside._key_prefix = f"{self.url}/{name}", f"{self._key_prefix}{name}/"
        inside._location = self._location.replace(self.url, inside.url, 1)
        return inside

    def iterate_files(self) -> Iterator[StoredFile]:
        with self._translate_errors("listing it"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key_prefix, Delimiter="/"
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    if "/" not in (name := entry["Key"].removeprefix(self._key_prefix)):
                        yield StoredFile(name, entry["Size"], entry["LastModified"])

    @contextmanager
    def create(self, name: str) -> Iterator["_PartWriter"]:
        self._refuse_existing(name)
        with self._translate_errors(f"writing {name}"):
            upload = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=self._key(name), ContentType="application/octet-stream"
            )
        writer = _PartWriter(lambda number, part: self._upload_part(name, upload["UploadId"], number, part))
        try:
            yield writer
            writer.send_rest()
            with self._translate_errors(f"completing {name}"):
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self._key(name),
                    UploadId=upload["UploadId"],
                    MultipartUpload={"Parts": writer.parts},
                )
        except BaseException:
            with suppress(BotoCoreError, ClientError):  # delete_unfinished removes it later
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key(name), UploadId=upload["UploadId"]
                )
            raise

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        bucket, key = self._bucket, self._key(name)
        head = self._call_with_retries(name, lambda: self._client.head_object(Bucket=bucket, Key=key))
        position, size, body = start, head["ContentLength"], None

        def next_chunk() -> bytes:
            """Return the next bytes. After an error, the rest of the range is requested again."""
            nonlocal body, position
            try:
                if body is None:
                    span = f"bytes={position}-{min(position + RANGE_BYTES, size) - 1}"
                    # If-Match: all ranges are of the same version of the object.
                    body = self._client.get_object(Bucket=bucket, Key=key, Range=span, IfMatch=head["ETag"])["Body"]
                chunk = body.read(CHUNK)
            except BaseException:
                body = None
                raise
            position += len(chunk)
            return chunk

        try:
            while position < size:
                chunk = self._call_with_retries(name, next_chunk)
                if chunk:
                    yield chunk
                else:
                    body = None  # the end of this range
        finally:
            if body is not None:
                body.close()

    def delete(self, name: str) -> None:
        with self._translate_errors(f"deleting {name}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def delete_unfinished(self, prefix: str, suffixes: Sequence[str] = ("",)) -> int:
        return self._abort(prefix, lambda upload: self._name(upload).endswith(tuple(suffixes)))

    def delete_abandoned(self, names: re.Pattern[str], before: datetime) -> int:
        def is_abandoned(upload: "MultipartUploadTypeDef") -> bool:
            if not names.fullmatch(self._name(upload)) or upload["Initiated"] >= before:
                return False
            return not self._has_part(upload, before)

        return self._abort("", is_abandoned)

    def _abort(self, prefix: str, is_wanted: Callable[["MultipartUploadTypeDef"], bool]) -> int:
        with self._translate_errors("listing unfinished uploads"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            uploads = [upload for page in pages for upload in page.get("Uploads", ())]
            uploads = [upload for upload in uploads if "/" not in self._name(upload) and is_wanted(upload)]
            for upload in uploads:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return len(uploads)

    def _name(self, upload: "MultipartUploadTypeDef") -> str:
        return upload["Key"].removeprefix(self._key_prefix)

    def _has_part(self, upload: "MultipartUploadTypeDef", since: datetime) -> bool:
        """Return whether the unfinished upload has a part that was sent after `since`."""
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
        return any(part["LastModified"] >= since for page in pages for part in page.get("Parts", ()))

    def _key(self, name: str) -> str:
        return f"{self._key_prefix}{name}"

    def _refuse_existing(self, name: str) -> None:
        with self._translate_errors(f"writing {name}"):
            response = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._key(name), MaxKeys=1)
        if any(entry["Key"] == self._key(name) for entry in response.get("Contents", ())):
            raise StorageUnavailable(f"{self.url} already holds a file called {name}; nothing was overwritten.")

    def _upload_part(self, name: str, upload_id: str, number: int, part: bytes) -> str:
        with self._translate_errors(f"writing {name}"):
            return self._client.upload_part(
                Bucket=self._bucket, Key=self._key(name), UploadId=upload_id, PartNumber=number, Body=part
            )["ETag"]

    def _call_with_retries(self, name: str, call: Callable[[], T]) -> T:
        """Run `call` with retries for a body that breaks off; botocore itself retries only up to the headers."""
        retrying = Retrying(
            retry=retry_if_exception_type((HTTPClientError, HTTPError, IncompleteReadError)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(0.2, max=2),
            reraise=True,
        )
        with self._translate_errors(f"reading {name}"):
            try:
                return retrying(call)
            except ClientError as error:
                if error_code(error) in ("404", "NoSuchKey"):
                    raise FileNotFoundInStorage(f"{self.url} holds no file called {name}.") from None
                if error_code(error) in ("412", "PreconditionFailed"):
                    raise StoredFileChanged(f"{name} in {self.url} was replaced while it was being read.") from None
                raise

    @contextmanager
    def _translate_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, HTTPError, ValueError) as error:
            reason = describe(error, self._settings_prefix)
            raise StorageUnavailable(f"The store {self._location} failed while {action}: {reason}.") from error


class _PartWriter:
    """A buffer that is sent as a part of the upload each time it is full."""

    def __init__(self, send: Callable[[int, bytes], str]) -> None:
        self.parts: list[CompletedPartTypeDef] = []
        self._send = send
        self._buffer = bytearray()

    def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        while len(self._buffer) >= (size := PART_BYTES * (1 + len(self.parts) // GROW_EVERY_PARTS)):
            self._send_part(bytes(self._buffer[:size]))
            del self._buffer[:size]

    def send_rest(self) -> None:
        """Send the last part, which may have any size. An empty file is one empty part."""
        if self._buffer or not self.parts:
            self._send_part(bytes(self._buffer))

    def _send_part(self, part: bytes) -> None:
        number = len(self.parts) + 1
        self.parts.append({"PartNumber": number, "ETag": self._send(number, part)})


def _client_config(*, custom_endpoint: bool, quick: bool) -> Config:
    return Config(
        connect_timeout=QUICK_SECONDS if quick else CONNECT_SECONDS,
        read_timeout=QUICK_SECONDS if quick else READ_SECONDS,
        retries={"mode": "standard", "max_attempts": 1 if quick else ATTEMPTS},
        s3={"addressing_style": "path" if custom_endpoint else "auto"},
        # Some compatible services do not support AWS's newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
