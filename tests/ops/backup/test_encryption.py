"""Encrypted backups: with age's own program as the second implementation, with other keys, and with bounded memory."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyrage import ssh, x25519

from app.config import load_settings
from app.errors import SettingsError
from ops.backup.create import create
from ops.backup.drill import drill
from ops.backup.encryption import decrypt, encrypt, load_identities
from ops.backup.errors import BackupDamaged, BackupKeyUnusable, DrillAborted, RestoreFailed
from ops.backup.inventory import Inventory
from ops.backup.names import DUMP, ENCRYPTED_DUMP, MANIFEST
from ops.backup.prune import prune
from ops.backup.restore import restore
from ops.backup.verify import verify
from tests.database import fresh_database
from tests.ops.backup import damage
from tests.ops.backup.conftest import BackupInstall, as_role
from tests.ops.installation import run_sql

MARK = "words-that-a-plain-dump-would-contain"


@pytest.fixture
def identity() -> Any:
    return x25519.Identity.generate()


@pytest.fixture
def key_file(identity: Any, tmp_path: Path) -> Path:
    """Create a file as `age-keygen` writes it."""
    file = tmp_path / "key.txt"
    file.write_text(f"# created: 2026-11-22\n# public key: {identity.to_public()}\n{identity}\n")
    return file


@pytest.fixture
def empty(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    with fresh_database(postgres, f"decrypted_{testrun_uid[:8]}_{worker_id}") as url:
        yield url


@pytest.fixture
def server(install: Callable[..., BackupInstall], spare_url: str, identity: Any) -> BackupInstall:
    """Install Parley with only the public key."""
    run_sql(spare_url, f"UPDATE messages SET content = '{MARK}' || id")
    return install(spare_url, age_recipients=(str(identity.to_public()),))


@pytest.fixture
def safe(install: Callable[..., BackupInstall], server: BackupInstall, key_file: Path) -> BackupInstall:
    """Install Parley with the private key too."""
    recipients = server.flask_app.extensions["parley"].settings.backups.age_recipients
    return install(server.url, age_recipients=recipients, age_identity_file=key_file)


def dump_of(parley: BackupInstall) -> Path:
    [path] = parley.folder.glob(f"*{ENCRYPTED_DUMP}")
    return path


def test_backup_is_encrypted_and_its_manifest_says_so(server: BackupInstall, identity: Any) -> None:
    created = server.run(create)
    assert server.files == [f"{created.name}{ENCRYPTED_DUMP}", f"{created.name}{MANIFEST}"]
    content = dump_of(server).read_bytes()
    assert content.startswith(b"age-encryption.org/v1\n")
    assert b"PGDMP" not in content
    assert all(MARK.encode() not in path.read_bytes() for path in server.folder.iterdir())
    manifest = server.manifest(created.name)
    assert manifest["schema"] == "parley.backup/2"
    assert manifest["dump"]["encryption"] == {"format": "age", "recipients": [str(identity.to_public())]}
    assert created.encrypted_for == (str(identity.to_public()),)
    assert manifest["dump"]["bytes"] == len(content)
    code, out, _ = server.command("list", "--json")
    assert (code, json.loads(out)["report"][0]["encryption"]) == (0, "age")


def test_plain_backup_is_as_before(parley: BackupInstall) -> None:
    created = parley.run(create)
    manifest = parley.manifest(created.name)
    assert (manifest["schema"], manifest["dump"]["encryption"]) == ("parley.backup/1", None)
    assert parley.files[0].endswith(DUMP)


def test_verify_and_prune_need_no_private_key(server: BackupInstall) -> None:
    name = server.run(create).name
    [report] = server.run(verify, store=server.store)
    assert (report.name, report.ok) == (name, True)
    assert server.run(prune).kept == 1
    content = bytearray(dump_of(server).read_bytes())
    content[len(content) // 2] ^= 1
    dump_of(server).write_bytes(content)
    [report] = server.run(verify, store=server.store)
    assert "its SHA-256 is not the one" in report.problems[0]


def test_drill_and_restore_decrypt(safe: BackupInstall, empty: str) -> None:
    name = safe.run(create).name
    drilled = safe.run(drill)
    assert drilled.ok, drilled.problems
    restored = safe.run(restore, name=name, to=empty)
    assert restored.ok, restored.problems
    assert run_sql(empty, "SELECT content FROM messages WHERE id = 7") == [(f"{MARK}7",)]
    assert safe.scratches() == []


def test_missing_key_aborts_drill_and_restore(server: BackupInstall, empty: str, identity: Any) -> None:
    name = server.run(create).name
    expected = rf"is encrypted for {identity.to_public()}: set BACKUP_AGE_IDENTITY_FILE"
    with pytest.raises(DrillAborted, match=expected):
        server.run(drill)
    assert server.command("drill")[0] == 3
    with pytest.raises(BackupKeyUnusable, match=expected):
        server.run(restore, name=name, to=empty)
    assert run_sql(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    inventory = Inventory.load(server.store)
    assert inventory.last_report(inventory.backups[0]) is None  # the backup is not known to be bad


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{private}", r"No private key in .* can decrypt the dump: it is encrypted for age1"),
        ("", "holds no private key"),
        ("# only a comment\n", "holds no private key"),
        ("AGE-SECRET-KEY-1SHORT", "is not a file of private keys"),
        ("{public}", "is not a file of private keys"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "is not a file of private"),
        (b"\xff\xfe\x00", "is not a file of private keys"),
        (None, r"cannot be read: No such file or directory"),
    ],
)
def test_wrong_key_is_a_clear_error(
    safe: BackupInstall, key_file: Path, empty: str, content: str | bytes | None, message: str
) -> None:
    name = safe.run(create).name
    if content is None:
        key_file.unlink()
    else:
        other = x25519.Identity.generate()
        text = (
            content if isinstance(content, bytes) else content.format(private=other, public=other.to_public()).encode()
        )
        key_file.write_bytes(text)
    with pytest.raises(DrillAborted, match=message) as aborted:
        safe.run(drill)
    with pytest.raises(BackupKeyUnusable, match=message):
        safe.run(restore, name=name, to=empty)
    assert "AGE-SECRET-KEY-1S" not in aborted.value.detail
    database = f"with_wrong_key_{name[-8:]}"
    code, _, err = safe.command("restore", name, "--into", database, "--yes")
    assert code != 0
    assert "Traceback" not in err
    assert run_sql(safe.url, f"SELECT FROM pg_database WHERE datname = '{database}'") == []


def test_one_of_several_keys_is_enough(install: Callable[..., BackupInstall], spare_url: str, tmp_path: Path) -> None:
    keys = [x25519.Identity.generate() for _ in range(3)]
    file = tmp_path / "keys.txt"
    file.write_text(f"{x25519.Identity.generate()}\n{keys[2]}\n")
    recipients = tuple(str(key.to_public()) for key in keys)
    parley = install(spare_url, age_recipients=recipients, age_identity_file=file)
    assert parley.run(create).encrypted_for == recipients
    assert parley.run(drill).ok


def test_ssh_key_decrypts(install: Callable[..., BackupInstall], spare_url: str, tmp_path: Path) -> None:
    file = tmp_path / "id_ed25519"
    done = subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=False)
    if done.returncode != 0:
        pytest.skip("there is no ssh-keygen")
    public = file.with_suffix(".pub").read_text().strip()
    parley = install(spare_url, age_recipients=(public,), age_identity_file=file)
    parley.run(create)
    assert parley.run(drill).ok
    assert isinstance(load_identities(file)[0], ssh.Identity)


def test_truncated_dump_with_a_matching_checksum_is_found(safe: BackupInstall) -> None:
    """Only the decryption itself finds it: age marks the last piece."""
    name = safe.run(create).name
    path = dump_of(safe)
    path.write_bytes(path.read_bytes()[:-70_000])
    content = path.read_bytes()
    changes = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    damage.reseal(safe.folder, lambda document: document["dump"].update(changes))
    drilled = safe.run(drill, name=name)
    assert not drilled.ok
    assert drilled.problems


def test_program_age_reads_and_writes_the_same_format(safe: BackupInstall, key_file: Path, tmp_path: Path) -> None:
    """As docs/restore.md says for a restore without Parley."""
    age = shutil.which("age")
    if age is None:
        pytest.skip("the program age is not installed")
    safe.run(create)
    decrypted = subprocess.run(
        [age, "--decrypt", "-i", str(key_file), str(dump_of(safe))], capture_output=True, check=True
    )
    assert decrypted.stdout.startswith(b"PGDMP")
    assert len(decrypted.stdout) < dump_of(safe).stat().st_size


def test_failed_dump_leaves_nothing(install: Callable[..., BackupInstall], spare_url: str, identity: Any) -> None:
    parley = install(spare_url, age_recipients=(str(identity.to_public()),))
    run_sql(spare_url, "CREATE TABLE secret_rows (a int)", "ALTER TABLE secret_rows ENABLE ROW LEVEL SECURITY")
    role = f"reader_{spare_url.rpartition('/')[2]}"
    run_sql(
        spare_url, f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    try:
        limited = install(as_role(spare_url, role, "x"), age_recipients=(str(identity.to_public()),))
        code, _, err = limited.command("create")
        assert code != 0
        assert "failed" in err or "denied" in err or "could not" in err, err
        assert parley.files == []
    finally:
        run_sql(spare_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "recipients",
    ["age1", "nonsense", "age1x,age1y", "ssh-ed25519 AAAA", "{private}", "pgp:0xABCDEF"],
)
def test_invalid_recipient_is_refused_at_start(recipients: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUP_AGE_RECIPIENTS", recipients.format(private=x25519.Identity.generate()))
    with pytest.raises(SettingsError, match=r"^BACKUP_AGE_RECIPIENTS[.0-9]*: must be public keys") as refused:
        load_settings(env_file=None)
    assert "AGE-SECRET-KEY" not in str(refused.value)


def test_valid_recipients_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [str(x25519.Identity.generate().to_public()) for _ in range(2)]
    monkeypatch.setenv("BACKUP_AGE_RECIPIENTS", " , ".join(keys))
    assert load_settings(env_file=None).backups.age_recipients == tuple(keys)


def test_errors_of_reader_and_writer_are_raised_as_they_are(identity: Any) -> None:
    def damaged() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise BackupDamaged("in the middle")

    def refuse(chunk: bytes) -> None:
        raise BrokenPipeError("gone")

    recipient = str(identity.to_public())
    with pytest.raises(BackupDamaged, match="in the middle"):
        encrypt(damaged(), lambda chunk: None, [recipient])
    with pytest.raises(BrokenPipeError, match="gone"):
        encrypt([b"x" * 5_000_000], refuse, [recipient])
    pieces: list[bytes] = []
    encrypt([b"a", b"", b"b" * 3_000_000], pieces.append, [recipient])
    with pytest.raises(BrokenPipeError, match="gone"):
        decrypt(pieces, refuse, [identity])
    plain: list[bytes] = []
    decrypt(pieces, plain.append, [identity])
    assert b"".join(plain) == b"a" + b"b" * 3_000_000
    with pytest.raises(RestoreFailed, match="cannot be decrypted"):
        decrypt([b"PGDMP not encrypted"], plain.append, [identity])


def test_memory_is_bounded() -> None:
    """A process encrypts and decrypts 400 MB with chunks of 8 MiB, as S3 has them."""
    script = """
import resource
from pyrage import x25519
from ops.backup.encryption import decrypt, encrypt
key, size = x25519.Identity.generate(), 0
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def chunks():
    for _ in range(50):
        yield bytes(8 * 1024 * 1024)
class Pipe(Exception): pass
import threading, queue
pieces = queue.Queue(maxsize=2)
def run():
    encrypt(chunks(), pieces.put, [str(key.to_public())]); pieces.put(None)
threading.Thread(target=run, daemon=True).start()
def count(chunk):
    global size
    size += len(chunk)
decrypt(iter(pieces.get, None), count, [key])
assert size == 50 * 8 * 1024 * 1024, size
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)
    assert int(done.stdout) < 120, "MiB more than before"
