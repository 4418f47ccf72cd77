"""The settings of what is kept: when conversations go into bundles, and where backups go and for how long they stay."""

from pathlib import Path

from pydantic import Field, SecretStr

from app.config_values import BackupUrl, DrillUrl, Group
from app.errors import SettingsError


class Archive(Group):
    after_days: int = Field(
        90,
        ge=0,
        le=36_500,
        validation_alias="ARCHIVE_AFTER_DAYS",
        description="Days without a message after which a conversation is archived; 0 is never.",
    )
    slow_ms: float = Field(
        75,
        gt=0,
        validation_alias="ARCHIVE_SLOW_MS",
        description="Milliseconds of the slowest 5% of chats' statements beyond which the archival waits for them.",
    )
    pace: int = Field(
        2_000,
        ge=100,
        validation_alias="ARCHIVE_PACE",
        description="Messages that the archival, or its undo, moves in a second at most while people chat.",
    )


class Backups(Group):
    url: BackupUrl | None = Field(
        None,
        validation_alias="BACKUP_URL",
        description="Where backups are kept: file:///folder, which must exist, or s3://bucket/prefix; unset: the folder"
        " backups in PARLEY_HOME where the database is embedded, else there are none.",
    )
    keep_daily: int = Field(
        7, ge=1, le=366, validation_alias="BACKUP_KEEP_DAILY", description="Days of which the last backup is kept."
    )
    keep_weekly: int = Field(
        4, ge=0, le=520, validation_alias="BACKUP_KEEP_WEEKLY", description="Weeks of which the last backup is kept."
    )
    keep_monthly: int = Field(
        12, ge=0, le=120, validation_alias="BACKUP_KEEP_MONTHLY", description="Months of which the last one is kept."
    )
    s3_endpoint: str | None = Field(
        None,
        validation_alias="BACKUP_S3_ENDPOINT",
        pattern=r"^https?://",
        description="Address of a store that speaks S3; unset: AWS.",
    )
    s3_region: str | None = Field(None, validation_alias="BACKUP_S3_REGION", description="The bucket's region.")
    s3_access_key_id: SecretStr | None = Field(
        None,
        validation_alias="BACKUP_S3_ACCESS_KEY_ID",
        description="Key for the bucket; unset: as AWS's tools find it.",
    )
    s3_secret_access_key: SecretStr | None = Field(
        None, validation_alias="BACKUP_S3_SECRET_ACCESS_KEY", description="Its secret."
    )
    programs: Path | None = Field(
        None,
        validation_alias="BACKUP_POSTGRES_BIN",
        description="Folder of pg_dump and pg_restore; unset: those of the server's version, wherever they are.",
    )
    drill_url: DrillUrl | None = Field(
        None,
        validation_alias="DRILL_DATABASE_URL",
        description="PostgreSQL where a drill may make a database of its own; `embedded` starts one for it; unset: the"
        " database's own server.",
    )


def check_backups(backups: Backups) -> None:
    """Half a key would be refused by the store, at night."""
    if (backups.s3_access_key_id is None) != (backups.s3_secret_access_key is None):
        missing = "BACKUP_S3_ACCESS_KEY_ID" if backups.s3_access_key_id is None else "BACKUP_S3_SECRET_ACCESS_KEY"
        raise SettingsError(f"{missing}: the other half of the bucket's key is set; set both or neither")
