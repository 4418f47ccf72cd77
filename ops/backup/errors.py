"""Backup errors.

BackupError
├── BackupsNotConfigured  no store is set
├── NoSuchBackup          no backup has that name, or there is none at all
├── BackupDamaged         a manifest or dump is missing, damaged or changed
├── BackupKeyUnusable     no private key decrypts the dump, or its file cannot be read
├── ProgramsMissing       no pg_dump and pg_restore match the server
├── DumpFailed            pg_dump or the reading of the snapshot failed
├── RestoreFailed         pg_restore failed, or the target database is not suitable
└── DrillAborted          the drill's server failed or is full, or the key is missing; nothing is known about the backup
"""

from app.errors import ParleyError


class BackupError(ParleyError):
    """A failed backup operation. `detail` is one line for an operator: what failed, where, and what to do."""

    code = "backup_failed"
    default_detail = "The backup failed."


class BackupsNotConfigured(BackupError):
    code = "backups_not_set_up"
    default_detail = (
        "No store for backups is set. Set BACKUP_URL to file:///folder or s3://bucket/prefix, on another disk than the "
        "database's."
    )


class NoSuchBackup(BackupError):
    code = "no_such_backup"


class BackupDamaged(BackupError):
    code = "backup_damaged"


class BackupKeyUnusable(BackupError):
    code = "backup_key_unusable"


class ProgramsMissing(BackupError):
    code = "backup_programs_missing"


class DumpFailed(BackupError):
    code = "dump_failed"


class RestoreFailed(BackupError):
    code = "restore_failed"


class DrillAborted(BackupError):
    code = "drill_broken_off"
