"""Encryption of dumps with age (https://age-encryption.org), for public keys; private keys are read for restores only.

A dump is encrypted while it is written and decrypted while it is restored, in pieces of 64 KiB, so that neither the
store nor a temporary file ever has its plain text.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyrage
from pyrage import ssh, x25519

from app.storage.base import CHUNK
from ops.backup.errors import BackupKeyUnusable, DumpFailed, RestoreFailed
from ops.backup.manifest import Encryption

FORMAT = "age"
SETTING = "BACKUP_AGE_IDENTITY_FILE"
_NO_KEY = "No matching keys"  # in pyrage's message
MAX_KEY_BYTES = 1024 * 1024

Write = Callable[[bytes], Any]
Identities = Sequence[Any]  # of pyrage, which has no common class for them


class _AgeFailed(Exception):
    """An error of pyrage itself."""


class _Reader:
    """Chunks as the file that pyrage reads. `error` is what the chunks raised; pyrage replaces it by its own."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        except StopIteration:
            return b""
        except BaseException as error:
            self.error = error
            raise
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


class _Writer:
    """The file that pyrage writes: collects its small pieces into chunks. `error` is what `write` raised."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._pieces = bytearray()
        self.error: BaseException | None = None

    def write(self, piece: bytes) -> int:
        self._pieces += piece
        if len(self._pieces) >= CHUNK:
            self.flush()
        return len(piece)

    def flush(self) -> None:
        chunk, self._pieces = bytes(self._pieces), bytearray()
        try:
            if chunk:
                self._write(chunk)
        except BaseException as error:
            self.error = error
            raise


class _FirstPiece:
    """A file that ends a decryption at its first piece."""

    def write(self, piece: bytes) -> int:
        raise OSError("enough was read")

    def flush(self) -> None:
        pass


def encrypt(chunks: Iterable[bytes], write: Write, recipients: Sequence[str]) -> None:
    """Encrypt `chunks` for the recipients, and write the result in chunks. Errors of both are raised as they are."""
    try:
        _run(pyrage.encrypt_io, _Reader(chunks), _Writer(write), [_recipient(text) for text in recipients])
    except _AgeFailed as error:
        raise DumpFailed(f"The dump could not be encrypted: {error}.") from None


def decrypt(chunks: Iterable[bytes], write: Write, identities: Identities) -> None:
    """Decrypt `chunks`, and write the result in chunks. Errors of both are raised as they are.

    Raises `RestoreFailed` if the chunks cannot be decrypted.
    """
    try:
        _run(pyrage.decrypt_io, _Reader(chunks), _Writer(write), list(identities))
    except _AgeFailed as error:
        raise RestoreFailed(f"The dump cannot be decrypted: {error}.") from None


def identities_for(encryption: Encryption, file: Path | None, head: Callable[[], Iterator[bytes]]) -> Identities:
    """Return the private keys for an encrypted dump; `head` reads it from its beginning.

    Raises `BackupKeyUnusable` if no key of the file at BACKUP_AGE_IDENTITY_FILE can decrypt it.
    """
    recipients = ", ".join(_short(each) for each in encryption.recipients)
    if encryption.format != FORMAT:
        raise BackupKeyUnusable(f"The dump is encrypted with {encryption.format}, which Parley cannot decrypt.")
    if file is None:
        raise BackupKeyUnusable(
            f"The dump is encrypted for {recipients}: set {SETTING} to the file with the private key of one of them."
        )
    identities = load_identities(file)
    if not _has_key(head(), identities):
        raise BackupKeyUnusable(
            f"No private key in {file} ({SETTING}) can decrypt the dump: it is encrypted for {recipients}."
        )
    return identities


def load_identities(file: Path) -> Identities:
    """Read age's private keys, one per line, or one SSH key without a passphrase. Raises `BackupKeyUnusable`."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_KEY_BYTES)
    except OSError as error:
        raise BackupKeyUnusable(f"{file} ({SETTING}) cannot be read: {error.strerror}.") from None
    try:
        if b"PRIVATE KEY-----" in content:
            return [ssh.Identity.from_buffer(content)]
        lines = [line.strip() for line in content.decode().splitlines()]
        keys = [x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (pyrage.IdentityError, UnicodeDecodeError, ValueError):  # their messages can contain a part of the key
        raise BackupKeyUnusable(
            f"{file} ({SETTING}) is not a file of private keys: it needs lines that begin with AGE-SECRET-KEY-1, or "
            "one SSH key without a passphrase."
        ) from None
    if not keys:
        raise BackupKeyUnusable(f"{file} ({SETTING}) holds no private key.")
    return keys


def _has_key(chunks: Iterable[bytes], identities: Identities) -> bool:
    """Return whether one of the identities can decrypt the file. Damage of the file is not found here."""
    reader = _Reader(chunks)
    try:
        pyrage.decrypt_io(reader, _FirstPiece(), list(identities))
    except (pyrage.DecryptError, OSError) as error:
        if reader.error is not None:
            raise reader.error from None
        return _NO_KEY not in str(error)
    return True


def _run(function: Callable[..., None], reader: _Reader, writer: _Writer, keys: list[Any]) -> None:
    """Run one of pyrage's functions. It wraps errors of its files, and raises OSError for a damaged file too."""
    try:
        function(reader, writer, keys)
        writer.flush()
    except (pyrage.EncryptError, pyrage.DecryptError, OSError) as error:
        if (original := reader.error or writer.error) is not None:
            raise original from None
        raise _AgeFailed(str(error)) from None


def _recipient(text: str) -> Any:
    return (ssh.Recipient if text.startswith("ssh-") else x25519.Recipient).from_str(text)


def _short(recipient: str) -> str:
    """Return a recipient as it is shown: an SSH key without its comment, and only the end of a long one."""
    kind, _, key = recipient.partition(" ")
    return f"{kind} ...{key.partition(' ')[0][-16:]}" if key else recipient
