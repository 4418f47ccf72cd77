"""A store in a bucket: AWS's S3 or anything that speaks like it.

Written in parts and completed at the end, so that half a file is never seen; read in ranges, each of which may be tried
again, so that a connection that breaks costs one of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ReadTimeoutError,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from urllib3.exceptions import HTTPError

from ops.backup.errors import Damaged, StoreFailed
from ops.backup.stores.base import Entry, Store

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef

PART = 16 * 1024 * 1024  # bytes; it grows by as much every thousand parts, of which there may be ten thousand: 880 GB
GROWS_EVERY = 1000
RANGE = 8 * 1024 * 1024
TRIES = 3
CONNECT_SECONDS, READ_SECONDS = 5, 60
HASTY_SECONDS = 4  # for whoever only looks, and has no time

_ADVICE = {
    "NoSuchBucket": "the bucket does not exist; make it, or correct BACKUP_URL",
    "InvalidAccessKeyId": "it does not know BACKUP_S3_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "BACKUP_S3_SECRET_ACCESS_KEY is wrong",
    "AccessDenied": "the key may not do this; it needs to list, read, write and delete there",
    "403": "the key may not do this; it needs to list, read, write and delete there",
    "NoSuchKey": "it holds no such file",
    "PermanentRedirect": "the bucket is in another region; set BACKUP_S3_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set BACKUP_S3_REGION",
}
Answer = TypeVar("Answer")


class Bucket(Store):
    """`prefix` is a folder's path without slashes at its ends, or empty. `keys` None: where boto3 finds them itself."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        keys: tuple[str, str] | None = None,
        hasty: bool = False,
    ) -> None:
        self.place = f"s3://{bucket}/{prefix}".rstrip("/")
        self._where = f"{self.place} at {endpoint}" if endpoint else self.place
        self._bucket = bucket
        self._folder = f"{prefix}/" if prefix else ""
        key, secret = keys or (None, None)
        with self._explained("opening it"):
            self._client = boto3.client(
                "s3",
                endpoint_url=endpoint,
                region_name=region or ("us-east-1" if endpoint else None),
                aws_access_key_id=key,
                aws_secret_access_key=secret,
                config=_config(own_endpoint=endpoint is not None, hasty=hasty),
            )

    def entries(self) -> list[Entry]:
        with self._explained("listing it"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._folder)
            found = [thing for page in pages for thing in page.get("Contents", ())]
        names = [(thing["Key"].removeprefix(self._folder), thing) for thing in found]
        return [Entry(name, thing["Size"], thing["LastModified"]) for name, thing in names if "/" not in name]

    @contextmanager
    def writing(self, name: str) -> Iterator["_PartWriter"]:
        self._refuse_taken(name)
        with self._explained(f"writing {name}"):
            begun = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=self._key(name), ContentType="application/octet-stream"
            )
        writer = _PartWriter(lambda number, part: self._upload(name, begun["UploadId"], number, part))
        try:
            yield writer
            writer.send_rest()
            with self._explained(f"completing {name}"):
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self._key(name),
                    UploadId=begun["UploadId"],
                    MultipartUpload={"Parts": writer.parts},
                )
        except BaseException:
            with suppress(BotoCoreError, ClientError):  # then the next run finds it
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key(name), UploadId=begun["UploadId"]
                )
            raise

    def reading(self, name: str) -> Iterator[bytes]:
        bucket, key = self._bucket, self._key(name)
        head = self._read(name, lambda: self._client.head_object(Bucket=bucket, Key=key))
        for start in range(0, head["ContentLength"], RANGE):
            end = min(start + RANGE, head["ContentLength"]) - 1

            def piece(span: str = f"bytes={start}-{end}") -> bytes:
                # The same object all the way, or none: If-Match.
                answer = self._client.get_object(Bucket=bucket, Key=key, Range=span, IfMatch=head["ETag"])
                return answer["Body"].read()

            yield self._read(name, piece)

    def remove(self, name: str) -> None:
        with self._explained(f"removing {name}"):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def tidy(self, prefix: str, suffixes: Sequence[str]) -> int:
        with self._explained("looking for unfinished uploads"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            left = [upload for page in pages for upload in page.get("Uploads", ())]
            left = [upload for upload in left if upload["Key"].endswith(tuple(suffixes))]
            for upload in left:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return len(left)

    def _key(self, name: str) -> str:
        return f"{self._folder}{name}"

    def _refuse_taken(self, name: str) -> None:
        with self._explained(f"writing {name}"):
            answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._key(name), MaxKeys=1)
        if any(thing["Key"] == self._key(name) for thing in answer.get("Contents", ())):
            raise StoreFailed(f"{self.place} holds a file called {name} already; nothing was overwritten.")

    def _upload(self, name: str, upload: str, number: int, part: bytes) -> str:
        with self._explained(f"writing {name}"):
            return self._client.upload_part(
                Bucket=self._bucket, Key=self._key(name), UploadId=upload, PartNumber=number, Body=part
            )["ETag"]

    def _read(self, name: str, ask: Callable[[], Answer]) -> Answer:
        """botocore tries again what fails before the answer; a body that breaks off is tried again here."""
        tries = Retrying(
            retry=retry_if_exception_type((HTTPClientError, HTTPError)),
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(0.2, max=2),
            reraise=True,
        )
        with self._explained(f"reading {name}"):
            try:
                return tries(ask)
            except ClientError as error:
                if _code(error) in ("404", "NoSuchKey"):
                    raise Damaged(f"{self.place} holds no file called {name}.") from None
                if _code(error) in ("412", "PreconditionFailed"):
                    raise Damaged(f"{name} in {self.place} was replaced while it was being read.") from None
                raise

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, HTTPError, ValueError) as error:
            reason = _reason(error)
            raise StoreFailed(f"The backups' store {self._where} cannot be used, {doing}: {reason}.") from error


class _PartWriter:
    """Gathers parts of the size that the store wants, and sends each when it is full."""

    def __init__(self, send: Callable[[int, bytes], str]) -> None:
        self.parts: list[CompletedPartTypeDef] = []
        self._send = send
        self._gathered = bytearray()

    def write(self, piece: bytes) -> None:
        self._gathered += piece
        while len(self._gathered) >= (size := PART * (1 + len(self.parts) // GROWS_EVERY)):
            self._send_part(bytes(self._gathered[:size]))
            del self._gathered[:size]

    def send_rest(self) -> None:
        """The last part, of any size; an empty file is one empty part."""
        if self._gathered or not self.parts:
            self._send_part(bytes(self._gathered))

    def _send_part(self, part: bytes) -> None:
        number = len(self.parts) + 1
        self.parts.append({"PartNumber": number, "ETag": self._send(number, part)})


def _config(*, own_endpoint: bool, hasty: bool) -> Config:
    return Config(
        connect_timeout=HASTY_SECONDS if hasty else CONNECT_SECONDS,
        read_timeout=HASTY_SECONDS if hasty else READ_SECONDS,
        retries={"mode": "standard", "max_attempts": 1 if hasty else TRIES},
        s3={"addressing_style": "path" if own_endpoint else "auto"},
        # Not every store knows AWS's newer checksums, and the manifest has one that all of them keep.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _reason(error: Exception) -> str:
    """Why, in a few words without anything secret."""
    if isinstance(error, ClientError):
        code = _code(error)
        return f"it answers {code}: {_ADVICE[code]}" if code in _ADVICE else f"it answers {code or 'an error'}"
    if isinstance(error, NoCredentialsError):
        return "no keys; set BACKUP_S3_ACCESS_KEY_ID and BACKUP_S3_SECRET_ACCESS_KEY"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return "nothing answers at its address; is BACKUP_S3_ENDPOINT right, and the store up?"
    if isinstance(error, ReadTimeoutError):
        return "it did not answer in time"
    return f"{type(error).__name__}, {str(error)[:200]}"
