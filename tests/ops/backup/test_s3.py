"""The S3 store, against a moto server that checks keys, and with broken connections."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from app.storage import s3
from app.storage.errors import FileNotFoundInStorage, StorageUnavailable
from app.storage.s3 import S3Store
from ops.backup.create import BackupReport, create
from ops.backup.drill import DrillReport, drill
from ops.backup.inventory import Inventory
from ops.backup.names import DUMP
from ops.backup.prune import PruneReport, prune
from tests.faults.proxy import Proxy
from tests.moto import BUCKET, Moto, moto, s3_client
from tests.ops.backup.conftest import BackupInstall

__all__ = ["moto"]  # a fixture

pytestmark = pytest.mark.xdist_group("s3")  # one server for all of them


def put(store: S3Store, name: str, pieces: Iterable[bytes]) -> None:
    with store.create(name) as file:
        for piece in pieces:
            file.write(piece)


def test_create_drill_and_prune_on_s3(install: Callable[..., BackupInstall], sample_url: str, moto: Moto) -> None:
    parley = install(
        sample_url, url=f"s3://{BUCKET}/of/parley", **moto.settings(keep_daily=1, keep_weekly=0, keep_monthly=0)
    )
    first: BackupReport = parley.run(create)
    assert first.store == f"s3://{BUCKET}/of/parley"
    drilled: DrillReport = parley.run(drill)
    assert drilled.ok, drilled.problems
    others = sorted(parley.run(create).name for _ in range(2))  # of one second, perhaps; then the name decides
    pruned: PruneReport = parley.run(prune)
    assert pruned.deleted == 1
    left = {backup.name.text for backup in Inventory.load(moto.bucket("of/parley")).backups}
    assert left == {first.name, others[1]}
    code, out, _ = parley.command("list", "--json")
    assert code == 0
    assert moto.secret not in out


def test_multipart_file_is_read_back_unchanged(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 1024 * 1024)  # S3's minimum
    monkeypatch.setattr(s3, "GROW_EVERY_PARTS", 2)
    store, pieces = moto.bucket("parts"), [os.urandom(1_000_003) for _ in range(24)]
    put(store, "large", pieces)
    put(store, "empty", [])
    assert b"".join(store.read("large")) == b"".join(pieces)
    assert list(store.read("empty")) == []
    assert {entry.name: entry.size for entry in store.list_files()} == {"large": 24 * 1_000_003, "empty": 0}


def test_failed_write_leaves_no_file_and_no_upload(moto: Moto) -> None:
    store = moto.bucket("aborted")
    with pytest.raises(ZeroDivisionError):
        put(store, "half", (b"x" * (20_000_000 // n) for n in (1, 0)))
    assert store.list_files() == []
    begun = s3_client(moto).list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert [upload["Key"] for upload in begun if upload["Key"].startswith("aborted")] == []


def test_delete_unfinished_aborts_only_matching_uploads(moto: Moto) -> None:
    client, store = s3_client(moto), moto.bucket("tidy")
    for key in ("tidy/parley-1-a.dump", "tidy/parley-2-a.dump", "parley-1-a.dump"):
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
    assert store.delete_unfinished("parley-1-", (DUMP,)) == 1
    left = [upload["Key"] for upload in client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]]
    assert sorted(left) == ["parley-1-a.dump", "tidy/parley-2-a.dump"]
    for upload in client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]:
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])


def test_s3_store_does_not_overwrite_a_file(moto: Moto) -> None:
    store = moto.bucket("taken")
    put(store, "name", [b"first"])
    with pytest.raises(StorageUnavailable, match="already holds a file called name"):
        put(store, "name", [b"second"])
    assert b"".join(store.read("name")) == b"first"
    with pytest.raises(FileNotFoundInStorage, match="holds no file called other"):
        list(store.read("other"))


def test_wrong_keys_and_buckets_are_named_in_the_error(moto: Moto) -> None:
    with pytest.raises(StorageUnavailable, match="InvalidAccessKeyId: BACKUP_S3_ACCESS_KEY_ID is not known there"):
        moto.bucket(access_key=("AKIAWRONGWRONGWRONG1", moto.secret)).list_files()
    wrong_secret = "SignatureDoesNotMatch: BACKUP_S3_SECRET_ACCESS_KEY is wrong"
    with pytest.raises(StorageUnavailable, match=wrong_secret) as raised:
        moto.bucket(access_key=(moto.key, "a-wrong-secret")).list_files()
    assert "a-wrong-secret" not in raised.value.detail
    nowhere = S3Store(
        "nowhere", "", settings_prefix="BACKUP", endpoint=moto.endpoint, access_key=(moto.key, moto.secret)
    )
    with pytest.raises(StorageUnavailable, match="NoSuchBucket: the bucket does not exist"):
        nowhere.list_files()
    with pytest.raises(StorageUnavailable, match="NoSuchBucket: the bucket does not exist"):
        put(nowhere, "name", [b"x"])


def test_unreachable_store_fails_create_and_makes_verify_unknown(
    install: Callable[..., BackupInstall], sample_url: str, moto: Moto
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        down = f"http://127.0.0.1:{probe.getsockname()[1]}"
    parley = install(sample_url, url=f"s3://{BUCKET}/down", **moto.settings(s3_endpoint=down))
    code, _, err = parley.command("create")
    assert code == 2
    assert "its address does not respond; check BACKUP_S3_ENDPOINT, and that the service runs" in err
    code, _, err = parley.command("verify")
    assert (code, moto.secret in err) == (3, False)


def test_silent_store_times_out(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "QUICK_SECONDS", 0.2)
    with Proxy(("127.0.0.1", moto.port)) as wire:
        wire.black_hole()
        with pytest.raises(StorageUnavailable, match="it did not answer in time"):
            moto.bucket(endpoint=f"http://127.0.0.1:{wire.port}", quick=True).list_files()


def test_store_lost_during_a_write_leaves_no_file(
    install: Callable[..., BackupInstall], sample_url: str, moto: Moto
) -> None:
    with Proxy(("127.0.0.1", moto.port)) as wire:
        settings = moto.settings(s3_endpoint=f"http://127.0.0.1:{wire.port}")
        parley = install(sample_url, url=f"s3://{BUCKET}/halfway", **settings)
        store = moto.bucket("halfway", endpoint=f"http://127.0.0.1:{wire.port}")

        def pieces() -> Iterator[bytes]:
            yield b"x"
            wire.cut()

        with pytest.raises(StorageUnavailable, match="writing name"):
            put(store, "name", pieces())
        wire.repair()
        assert store.list_files() == []
        assert parley.run(create).name in {entry.name.removesuffix(DUMP) for entry in store.list_files()}


def test_broken_response_body_is_retried(moto: Moto) -> None:
    content = os.urandom(3_000_000)
    put(moto.bucket("breaking"), "name", [content])
    with _breaking(moto.port, times=2) as port:
        assert b"".join(moto.bucket("breaking", endpoint=f"http://127.0.0.1:{port}").read("name")) == content
    with _breaking(moto.port, times=100, after=0) as port, pytest.raises(StorageUnavailable, match="reading name"):
        list(moto.bucket("breaking", endpoint=f"http://127.0.0.1:{port}").read("name"))


@contextlib.contextmanager
def _breaking(target: int, *, times: int, after: int = 1_000_000) -> Iterator[int]:
    """Proxy that breaks off the first `times` responses of more than `after` bytes; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = [times]
        threading.Thread(target=_serve, args=(listener, target, left, after), daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, target: int, left: list[int], after: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", target))
            threading.Thread(target=_pass, args=(near, far, [0], after), daemon=True).start()
            threading.Thread(target=_pass, args=(far, near, left, after), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, left: list[int], after: int) -> None:
    passed = 0
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            passed += len(piece)
            if passed > after and left[0] > 0:
                left[0] -= 1
                break
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
