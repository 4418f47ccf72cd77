"""What can go wrong with backups.

BackupError
├── NotSetUp         no place to keep them was named
├── StoreFailed      that place cannot be reached, or refuses
├── NoSuchBackup     there is none of that name, or none at all
├── Damaged          what the store holds is not what the manifest says
├── ProgramsMissing  no pg_dump or pg_restore that fits the server
├── DumpFailed       pg_dump or the reading of the snapshot came to no good end
├── RestoreFailed    pg_restore did not, or the database to restore into will not do
└── DrillBrokenOff   the server for the drill went away or had no room: nothing was learned of the backup
"""

from app.errors import ParleyError


class BackupError(ParleyError):
    """`detail` is one line for a person at a terminal: what, where, and what to do."""

    code = "backup_failed"
    default_detail = "The backup failed."


class NotSetUp(BackupError):
    code = "backups_not_set_up"
    default_detail = (
        "No place for backups is set: set BACKUP_URL to file:///folder or s3://bucket/prefix, on another disk than the "
        "database's."
    )


class StoreFailed(BackupError):
    code = "backup_store_failed"


class NoSuchBackup(BackupError):
    code = "no_such_backup"


class Damaged(BackupError):
    code = "backup_damaged"


class ProgramsMissing(BackupError):
    code = "backup_programs_missing"


class DumpFailed(BackupError):
    code = "dump_failed"


class RestoreFailed(BackupError):
    code = "restore_failed"


class DrillBrokenOff(BackupError):
    code = "drill_broken_off"
