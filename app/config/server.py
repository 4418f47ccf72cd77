"""Settings of the web server."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from app.bounds import INTEGER_MAX, MAX_SECONDS
from app.config.values import Group, HeaderNames, Origins

MAX_OTHER_REQUESTS = 300  # requests other than streams that a web worker serves at once


class Server(Group):
    host: str = Field("127.0.0.1", validation_alias="HOST", description="Address that the web server listens on.")
    port: int = Field(8000, ge=1, le=65535, validation_alias="PORT", description="Port that the web server listens on.")
    workers: int = Field(2, ge=1, le=64, validation_alias="WEB_WORKERS", description="Number of web worker processes.")
    grace_seconds: int = Field(
        25,
        ge=6,
        le=3600,
        validation_alias="WEB_GRACE_SECONDS",
        description="Seconds for running turns to finish when the server stops; the rest is stored as interrupted.",
    )
    max_requests: int = Field(
        0,
        ge=0,
        le=INTEGER_MAX,
        validation_alias="WEB_MAX_REQUESTS",
        description="Requests after which a web worker finishes its turns and is replaced; 0 disables replacement.",
    )
    home: Path = Field(
        Path(".parley"),
        validation_alias="PARLEY_HOME",
        description="Folder for the embedded servers' data, generated keys and run files.",
    )
    body_seconds: float = Field(
        30,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="BODY_TIMEOUT",
        description="Seconds within which a request body must arrive; a later one is answered with 408.",
    )
    streams_per_user: int = Field(
        100,
        ge=1,
        le=10_000,
        validation_alias="STREAMS_PER_USER",
        description="Answers and exports that one user may read at once from one web worker; more are answered with 429"
        " and Retry-After.",
    )
    streams_per_worker: int = Field(
        800,
        ge=1,
        le=10_000,
        validation_alias="STREAMS_PER_WORKER",
        description="Answers and exports that a web worker sends at once; more are answered with 503 and Retry-After.",
    )
    send_seconds: float = Field(
        60,
        ge=0.1,
        le=3600,
        validation_alias="SEND_TIMEOUT",
        description="Seconds without reading after which a stalled client is disconnected (Linux only).",
    )
    max_body_bytes: int = Field(
        1_048_576,
        ge=65_536,
        le=INTEGER_MAX,
        validation_alias="MAX_BODY_BYTES",
        description="Largest request body, in bytes; a larger one is answered with 413.",
    )
    cors_origins: Origins = Field(
        (),
        validation_alias="CORS_ORIGINS",
        description="Origins whose pages may call the API from a browser, separated by commas; * allows every origin,"
        " unset allows none.",
    )
    cors_headers: HeaderNames = Field(
        (),
        validation_alias="CORS_HEADERS",
        description="Further request headers that pages of CORS_ORIGINS may send, separated by commas.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        validation_alias="TRUSTED_PROXIES",
        description="Number of proxies in front of the server whose X-Forwarded-For, X-Forwarded-Proto and"
        " X-Forwarded-Prefix are trusted.",
    )
    ops_token: SecretStr | None = Field(
        None,
        min_length=16,
        validation_alias="OPS_TOKEN",
        description="Bearer token for /metrics and the details of /health/ready; unset, both are open while HOST is a"
        " loopback address and closed otherwise.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL", description="Lowest severity that is logged."
    )
