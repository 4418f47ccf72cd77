"""A store that speaks S3: moto's server, in a process of its own on loopback, which checks keys; and worse ones."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import boto3
import pytest
from pydantic import SecretStr

from ops.backup.create import Created, create
from ops.backup.drill import Drilled, drill
from ops.backup.errors import Damaged, StoreFailed
from ops.backup.inventory import Inventory
from ops.backup.names import DUMP
from ops.backup.prune import Pruned, prune
from ops.backup.stores import s3
from ops.backup.stores.s3 import Bucket
from ops.embedded.parent_death import dying_with_parent
from tests.faults.proxy import Proxy
from tests.jobs.processes import eventually
from tests.ops.backup.conftest import SECONDS, Installation

pytestmark = pytest.mark.xdist_group("s3")  # one server for all of them

BUCKET = "backups"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
MAKING_KEYS = 3  # requests that anybody may make, before moto begins to look at keys


@dataclass
class Moto:
    port: int
    key: str
    secret: str

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, prefix: str = "", **changes: object) -> Bucket:
        given = {"endpoint": self.endpoint, "keys": (self.key, self.secret), **changes}
        return Bucket(BUCKET, prefix, **given)  # type: ignore[arg-type]

    def settings(self, **changes: object) -> dict[str, object]:
        given: dict[str, object] = {
            "s3_endpoint": self.endpoint,
            "s3_access_key_id": SecretStr(self.key),
            "s3_secret_access_key": SecretStr(self.secret),
        }
        return given | changes


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(MAKING_KEYS)},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=dying_with_parent(signal.SIGKILL),
        )

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        assert process.poll() is None, log.read_text()
        return False

    try:
        eventually(listens, log.read_text)
        found = Moto(port, *_keys(port))
        s3_client(found).create_bucket(Bucket=BUCKET)
        yield found
    finally:
        process.terminate()
        process.wait(SECONDS)


def _keys(port: int) -> tuple[str, str]:
    iam = boto3.client(
        "iam",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nobody",
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


def put(store: Bucket, name: str, pieces: Iterable[bytes]) -> None:
    with store.writing(name) as file:
        for piece in pieces:
            file.write(piece)


def test_a_backup_is_taken_proven_and_pruned_there(install: Callable[..., Installation], shop: str, moto: Moto) -> None:
    parley = install(shop, url=f"s3://{BUCKET}/of/parley", **moto.settings(keep_daily=1, keep_weekly=0, keep_monthly=0))
    first: Created = parley.run(create)
    assert first.place == f"s3://{BUCKET}/of/parley"
    drilled: Drilled = parley.run(drill)
    assert drilled.ok, drilled.problems
    others = sorted(parley.run(create).name for _ in range(2))  # of one second, perhaps; then the name decides
    pruned: Pruned = parley.run(prune)
    assert pruned.removed == 1
    left = {backup.name.text for backup in Inventory.of(moto.bucket("of/parley")).backups}
    assert left == {first.name, others[1]}
    code, out, _ = parley.command("list", "--json")
    assert code == 0
    assert moto.secret not in out


def test_a_file_in_many_parts_comes_back_as_it_was(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 1024 * 1024)  # the smallest that S3 takes
    monkeypatch.setattr(s3, "GROWS_EVERY", 2)
    store, pieces = moto.bucket("parts"), [os.urandom(1_000_003) for _ in range(24)]
    put(store, "large", pieces)
    put(store, "empty", [])
    assert b"".join(store.reading("large")) == b"".join(pieces)
    assert list(store.reading("empty")) == []
    assert {entry.name: entry.size for entry in store.entries()} == {"large": 24 * 1_000_003, "empty": 0}


def test_what_was_not_written_to_its_end_is_not_there(moto: Moto) -> None:
    store = moto.bucket("aborted")
    with pytest.raises(ZeroDivisionError):
        put(store, "half", (b"x" * (20_000_000 // n) for n in (1, 0)))
    assert store.entries() == []
    begun = s3_client(moto).list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert [upload["Key"] for upload in begun if upload["Key"].startswith("aborted")] == []


def test_uploads_that_were_cut_off_are_tidied_those_of_others_not(moto: Moto) -> None:
    client, store = s3_client(moto), moto.bucket("tidy")
    for key in ("tidy/parley-1-a.dump", "tidy/parley-2-a.dump", "parley-1-a.dump"):
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
    assert store.tidy("parley-1-", (DUMP,)) == 1
    left = [upload["Key"] for upload in client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]]
    assert sorted(left) == ["parley-1-a.dump", "tidy/parley-2-a.dump"]
    for upload in client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]:
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])


def test_a_name_is_taken_once(moto: Moto) -> None:
    store = moto.bucket("taken")
    put(store, "name", [b"first"])
    with pytest.raises(StoreFailed, match="holds a file called name already"):
        put(store, "name", [b"second"])
    assert b"".join(store.reading("name")) == b"first"
    with pytest.raises(Damaged, match="holds no file called other"):
        list(store.reading("other"))


def test_keys_and_buckets_that_are_wrong_are_named(moto: Moto) -> None:
    with pytest.raises(StoreFailed, match="InvalidAccessKeyId: it does not know BACKUP_S3_ACCESS_KEY_ID"):
        moto.bucket(keys=("AKIAWRONGWRONGWRONG1", moto.secret)).entries()
    with pytest.raises(StoreFailed, match="SignatureDoesNotMatch: BACKUP_S3_SECRET_ACCESS_KEY is wrong") as raised:
        moto.bucket(keys=(moto.key, "a-wrong-secret")).entries()
    assert "a-wrong-secret" not in raised.value.detail
    nowhere = Bucket("nowhere", "", endpoint=moto.endpoint, keys=(moto.key, moto.secret))
    with pytest.raises(StoreFailed, match="NoSuchBucket: the bucket does not exist"):
        nowhere.entries()
    with pytest.raises(StoreFailed, match="NoSuchBucket: the bucket does not exist"):
        put(nowhere, "name", [b"x"])


def test_a_store_that_is_down_leaves_no_backup_and_no_judgement(
    install: Callable[..., Installation], shop: str, moto: Moto
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        down = f"http://127.0.0.1:{probe.getsockname()[1]}"
    parley = install(shop, url=f"s3://{BUCKET}/down", **moto.settings(s3_endpoint=down))
    code, _, err = parley.command("create")
    assert code == 2
    assert "nothing answers at its address; is BACKUP_S3_ENDPOINT right, and the store up?" in err
    code, _, err = parley.command("verify")
    assert (code, moto.secret in err) == (3, False)


def test_a_store_that_does_not_answer_is_given_up(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "HASTY_SECONDS", 0.2)
    with Proxy(("127.0.0.1", moto.port)) as wire:
        wire.silence()
        with pytest.raises(StoreFailed, match="it did not answer in time"):
            moto.bucket(endpoint=f"http://127.0.0.1:{wire.port}", hasty=True).entries()


def test_a_store_that_goes_away_halfway_leaves_nothing_that_counts(
    install: Callable[..., Installation], shop: str, moto: Moto
) -> None:
    with Proxy(("127.0.0.1", moto.port)) as wire:
        settings = moto.settings(s3_endpoint=f"http://127.0.0.1:{wire.port}")
        parley = install(shop, url=f"s3://{BUCKET}/halfway", **settings)
        store = moto.bucket("halfway", endpoint=f"http://127.0.0.1:{wire.port}")

        def pieces() -> Iterator[bytes]:
            yield b"x"
            wire.cut()

        with pytest.raises(StoreFailed, match="writing name"):
            put(store, "name", pieces())
        wire.mend()
        assert store.entries() == []
        assert parley.run(create).name in {entry.name.removesuffix(DUMP) for entry in store.entries()}


def test_a_body_that_breaks_off_is_asked_for_again(moto: Moto) -> None:
    content = os.urandom(3_000_000)
    put(moto.bucket("breaking"), "name", [content])
    with _breaking(moto.port, times=2) as port:
        assert b"".join(moto.bucket("breaking", endpoint=f"http://127.0.0.1:{port}").reading("name")) == content
    with _breaking(moto.port, times=100) as port, pytest.raises(StoreFailed, match="reading name"):
        list(moto.bucket("breaking", endpoint=f"http://127.0.0.1:{port}").reading("name"))


@contextlib.contextmanager
def _breaking(target: int, *, times: int) -> Iterator[int]:
    """A wire that cuts that many answers which are longer than a megabyte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = [times]
        threading.Thread(target=_serve, args=(listener, target, left), daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, target: int, left: list[int]) -> None:
    with contextlib.suppress(OSError):
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", target))
            threading.Thread(target=_pass, args=(near, far, [0]), daemon=True).start()
            threading.Thread(target=_pass, args=(far, near, left), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, left: list[int]) -> None:
    passed = 0
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            passed += len(piece)
            if passed > 1_000_000 and left[0] > 0:
                left[0] -= 1
                break
            sink.sendall(piece)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
