"""The plain text of stored dumps, encrypted or not."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from app.config import Settings
from ops.backup.inventory import Backup, Inventory

if TYPE_CHECKING:  # imported where a dump is encrypted
    from ops.backup.encryption import Identities


def identities_of(inventory: Inventory, backup: Backup, settings: Settings) -> "Identities | None":
    """Return the private keys for a backup's dump, or None if it is not encrypted.

    Raises `BackupKeyUnusable` if BACKUP_AGE_IDENTITY_FILE has no key for it, and `BackupDamaged`.
    """
    dump, file = inventory.manifest(backup).dump, backup.dump
    if dump.encryption is None or file is None:
        return None
    from ops.backup.encryption import identities_for

    return identities_for(dump.encryption, settings.backups.age_identity_file, lambda: inventory.store.read(file.name))


def copy_plain(chunks: Iterable[bytes], write: Callable[[bytes], Any], identities: "Identities | None") -> None:
    """Write the chunks of a stored dump, decrypted with the identities if there are some.

    Raises `RestoreFailed` if they cannot be decrypted; errors of `chunks` and of `write` are raised as they are.
    """
    if identities is None:
        for chunk in chunks:
            write(chunk)
        return
    from ops.backup.encryption import decrypt

    decrypt(chunks, write, identities)
