"""Settings of uploaded files."""

from pydantic import Field, SecretStr

from app.bounds import MAX_BYTES, MAX_COUNT, MAX_TEXT
from app.config.values import Group, ProviderNames, StoreUrl
from app.errors import SettingsError


class Files(Group):
    url: StoreUrl | None = Field(
        None,
        validation_alias="FILES_URL",
        description="Where uploaded files are stored: file:///folder, which must exist, or s3://bucket/prefix; unset"
        " uses the folder files in PARLEY_HOME. All hosts must reach the same store.",
    )
    max_file_bytes: int = Field(
        100_000_000,
        ge=1,
        le=MAX_BYTES,
        validation_alias="FILES_MAX_FILE_BYTES",
        description="Bytes of the largest file that a user may upload.",
    )
    max_per_user: int = Field(
        10_000,
        ge=1,
        le=MAX_COUNT,
        validation_alias="FILES_MAX_PER_USER",
        description="Files that one user may have.",
    )
    providers: ProviderNames = Field(
        (),
        validation_alias="FILES_PROVIDERS",
        description="Providers to whose Files API the files of a project are copied if the project opts in: openai,"
        " openrouter or compatible, separated by commas; unset copies no file to any provider.",
    )
    provider_timeout: float = Field(
        300,
        ge=1,
        le=400,
        validation_alias="FILES_PROVIDER_TIMEOUT",
        description="Seconds for the upload of one file to a provider.",
    )
    extract: bool = Field(
        True,
        validation_alias="FILES_EXTRACT",
        description="Extracts the texts of uploaded files, in a child process with limits.",
    )
    extract_max_characters: int = Field(
        1_000_000,
        ge=1_000,
        le=10_000_000,
        validation_alias="FILES_EXTRACT_MAX_CHARACTERS",
        description="Characters of the longest text that is extracted from a file; longer texts are cut.",
    )
    extract_seconds: int = Field(
        20,
        ge=1,
        le=60,
        validation_alias="FILES_EXTRACT_SECONDS",
        description="Seconds after which the extraction of a file's text is ended.",
    )
    extract_max_memory_bytes: int = Field(
        512 * 1024 * 1024,
        ge=256 * 1024 * 1024,
        le=MAX_BYTES,
        validation_alias="FILES_EXTRACT_MAX_MEMORY_BYTES",
        description="Bytes of memory that the extraction of a file's text may use.",
    )
    context_chars: int = Field(
        40_000,
        ge=0,
        le=MAX_TEXT,
        validation_alias="FILES_CONTEXT_CHARS",
        description="Characters of files sent to the provider with a message; files with more text are searched for the"
        " passages that match the message. 0 sends none.",
    )
    max_images: int = Field(
        4,
        ge=0,
        le=20,
        validation_alias="FILES_MAX_IMAGES",
        description="Image files sent to the provider with a message. 0 sends none.",
    )
    max_image_bytes: int = Field(
        5_000_000,
        ge=1,
        le=50_000_000,
        validation_alias="FILES_MAX_IMAGE_BYTES",
        description="Bytes of all images sent to the provider with a message; further ones are left out.",
    )
    s3_endpoint: str | None = Field(
        None,
        validation_alias="FILES_S3_ENDPOINT",
        pattern=r"^https?://",
        description="URL of an S3-compatible service; unset uses AWS.",
    )
    s3_region: str | None = Field(None, validation_alias="FILES_S3_REGION", description="Region of the bucket.")
    s3_access_key_id: SecretStr | None = Field(
        None,
        validation_alias="FILES_S3_ACCESS_KEY_ID",
        description="Access key for the bucket; unset uses the default credential chain of AWS.",
    )
    s3_secret_access_key: SecretStr | None = Field(
        None, validation_alias="FILES_S3_SECRET_ACCESS_KEY", description="Secret of FILES_S3_ACCESS_KEY_ID."
    )


def check_files(files: Files) -> None:
    """Raise `SettingsError` if only one half of the bucket's key is set."""
    if (files.s3_access_key_id is None) != (files.s3_secret_access_key is None):
        missing = "FILES_S3_ACCESS_KEY_ID" if files.s3_access_key_id is None else "FILES_S3_SECRET_ACCESS_KEY"
        raise SettingsError(f"{missing}: the other half of the bucket's key is set; set both or none")
