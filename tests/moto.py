"""A moto server that checks keys, as an S3-compatible service."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
import pytest
from pydantic import SecretStr

from app.storage.s3 import S3Store
from ops.embedded.parent_death import signal_on_parent_death
from tests.waiting import wait_until

BUCKET = "backups"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
UNAUTHENTICATED_REQUESTS = 3  # those of _create_key; later requests need a key
SECONDS = 90  # until the server has ended


@dataclass
class Moto:
    port: int
    key: str
    secret: str

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, prefix: str = "", **changes: object) -> S3Store:
        options = {"endpoint": self.endpoint, "access_key": (self.key, self.secret), **changes}
        return S3Store(BUCKET, prefix, settings_prefix="BACKUP", **options)  # type: ignore[arg-type]

    def settings(self, **changes: object) -> dict[str, object]:
        values: dict[str, object] = {
            "s3_endpoint": self.endpoint,
            "s3_access_key_id": SecretStr(self.key),
            "s3_secret_access_key": SecretStr(self.secret),
        }
        return values | changes


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(UNAUTHENTICATED_REQUESTS)},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=signal_on_parent_death(signal.SIGKILL),
        )

    def is_listening() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        assert process.poll() is None, log.read_text()
        return False

    try:
        wait_until(is_listening, log.read_text)
        server = Moto(port, *_create_key(port))
        s3_client(server).create_bucket(Bucket=BUCKET)
        yield server
    finally:
        process.terminate()
        process.wait(SECONDS)


def _create_key(port: int) -> tuple[str, str]:
    iam = boto3.client(
        "iam",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="anonymous",
        aws_secret_access_key="anonymous",
    )
    iam.create_user(UserName="parley")
    key = iam.create_access_key(UserName="parley")["AccessKey"]
    iam.put_user_policy(UserName="parley", PolicyName="all", PolicyDocument=json.dumps(POLICY))
    return key["AccessKeyId"], key["SecretAccessKey"]


def s3_client(moto: Moto):  # type: ignore[no-untyped-def]
    return boto3.client(
        "s3",
        endpoint_url=moto.endpoint,
        region_name="us-east-1",
        aws_access_key_id=moto.key,
        aws_secret_access_key=moto.secret,
    )
