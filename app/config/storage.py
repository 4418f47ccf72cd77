"""Settings of archival and backups."""

from pathlib import Path

from pydantic import Field, SecretStr

from app.bounds import MAX_COUNT, MAX_DAYS, MAX_MILLISECONDS
from app.config.values import AgeRecipients, DrillUrl, Group, StoreUrl
from app.errors import SettingsError


class Archive(Group):
    after_days: int = Field(
        90,
        ge=0,
        le=MAX_DAYS,
        validation_alias="ARCHIVE_AFTER_DAYS",
        description="Days without a message after which a conversation is archived; 0 disables archival.",
    )
    pause_p95_ms: float = Field(
        75,
        gt=0,
        le=MAX_MILLISECONDS,
        validation_alias="ARCHIVE_PAUSE_P95_MS",
        description="Milliseconds; archival pauses while the 95th percentile of chat statements is slower.",
    )
    messages_per_second: int = Field(
        2_000,
        ge=100,
        le=MAX_COUNT,
        validation_alias="ARCHIVE_MESSAGES_PER_SECOND",
        description="Messages per second that archival and its undo move at most while chat requests arrive.",
    )


class Backups(Group):
    url: StoreUrl | None = Field(
        None,
        validation_alias="BACKUP_URL",
        description="Where backups are stored: file:///folder, which must exist, or s3://bucket/prefix; unset uses the"
        " folder backups in PARLEY_HOME with the embedded database, and disables backups otherwise.",
    )
    keep_daily: int = Field(
        7, ge=1, le=366, validation_alias="BACKUP_KEEP_DAILY", description="Days whose last backup is kept."
    )
    keep_weekly: int = Field(
        4, ge=0, le=520, validation_alias="BACKUP_KEEP_WEEKLY", description="Weeks whose last backup is kept."
    )
    keep_monthly: int = Field(
        12, ge=0, le=120, validation_alias="BACKUP_KEEP_MONTHLY", description="Months whose last backup is kept."
    )
    s3_endpoint: str | None = Field(
        None,
        validation_alias="BACKUP_S3_ENDPOINT",
        pattern=r"^https?://",
        description="URL of an S3-compatible service; unset uses AWS.",
    )
    s3_region: str | None = Field(None, validation_alias="BACKUP_S3_REGION", description="Region of the bucket.")
    s3_access_key_id: SecretStr | None = Field(
        None,
        validation_alias="BACKUP_S3_ACCESS_KEY_ID",
        description="Access key for the bucket; unset uses the default credential chain of AWS.",
    )
    s3_secret_access_key: SecretStr | None = Field(
        None, validation_alias="BACKUP_S3_SECRET_ACCESS_KEY", description="Secret of BACKUP_S3_ACCESS_KEY_ID."
    )
    programs: Path | None = Field(
        None,
        validation_alias="BACKUP_POSTGRES_BIN",
        description="Folder of pg_dump and pg_restore; unset searches for those of the server's major version.",
    )
    age_recipients: AgeRecipients = Field(
        (),
        validation_alias="BACKUP_AGE_RECIPIENTS",
        description="Public keys of age (age1...) or SSH (ssh-ed25519 ...), separated by commas, for which backups are"
        " encrypted; unset stores them without encryption.",
    )
    age_identity_file: Path | None = Field(
        None,
        validation_alias="BACKUP_AGE_IDENTITY_FILE",
        description="File with the private keys for encrypted backups, needed only for a restore and a drill.",
    )
    drill_url: DrillUrl | None = Field(
        None,
        validation_alias="DRILL_DATABASE_URL",
        description="URL of the PostgreSQL server for the scratch database of a restore drill; `embedded` starts a"
        " temporary server; unset uses the server of DATABASE_URL.",
    )


def check_backups(backups: Backups) -> None:
    """Raise `SettingsError` if only one half of the bucket's key is set."""
    if (backups.s3_access_key_id is None) != (backups.s3_secret_access_key is None):
        missing = "BACKUP_S3_ACCESS_KEY_ID" if backups.s3_access_key_id is None else "BACKUP_S3_SECRET_ACCESS_KEY"
        raise SettingsError(f"{missing}: the other half of the bucket's key is set; set both or none")
