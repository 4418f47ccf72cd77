"""Settings of authentication and of the limits per caller."""

from pydantic import Field, SecretStr

from app.bounds import MAX_COUNT
from app.config.values import Group, HttpUrl, HttpUrls, PreviousKeys, RedisUrl


class Auth(Group):
    jwt_secret_key: SecretStr | None = Field(
        None,
        min_length=32,
        validation_alias="JWT_SECRET_KEY",
        description="Key that signs tokens, at least 32 characters; unset with the embedded database, it is generated"
        " and kept in PARLEY_HOME.",
    )
    jwt_previous_keys: PreviousKeys = Field(
        (),
        validation_alias="JWT_PREVIOUS_KEYS",
        description="Earlier values of JWT_SECRET_KEY whose tokens are still accepted, separated by commas.",
    )
    audit_key: SecretStr | None = Field(
        None,
        min_length=32,
        validation_alias="AUDIT_KEY",
        description="Key of the audit's seals, at least 32 characters; unset uses a key derived from JWT_SECRET_KEY.",
    )
    audit_previous_keys: PreviousKeys = Field(
        (),
        validation_alias="AUDIT_PREVIOUS_KEYS",
        description="Earlier values of AUDIT_KEY, or of JWT_SECRET_KEY without it, with which older seals are checked,"
        " separated by commas.",
    )
    access_token_minutes: int = Field(
        15,
        ge=1,
        le=1440,
        validation_alias="ACCESS_TOKEN_MINUTES",
        description="Minutes after which an access token expires.",
    )
    refresh_token_days: int = Field(
        7,
        ge=1,
        le=365,
        validation_alias="REFRESH_TOKEN_DAYS",
        description="Days without a refresh after which a session expires.",
    )
    password_queue: int = Field(
        16,
        ge=1,
        le=MAX_COUNT,
        validation_alias="PASSWORD_QUEUE",
        description="Passwords per worker that may wait to be hashed, for ten seconds at most. Addresses and accounts"
        " take turns; above the number, a request of the address and account with the most is answered with 503.",
    )
    mcp_authorization_servers: HttpUrls = Field(
        (),
        validation_alias="MCP_AUTHORIZATION_SERVERS",
        description="URLs of the OAuth authorization servers that issue tokens for /mcp, separated by commas; MCP"
        " clients find them by its metadata. Unset, there is no metadata.",
    )
    mcp_url: HttpUrl | None = Field(
        None,
        validation_alias="MCP_URL",
        description="URL of /mcp as clients call it, such as https://chat.example.org/mcp; required with"
        " MCP_AUTHORIZATION_SERVERS.",
    )


class Limits(Group):
    url: RedisUrl | None = Field(
        None,
        validation_alias="RATE_LIMIT_URL",
        description="URL of the Redis that counts requests and failed logins for all processes; unset uses"
        " CELERY_BROKER_URL or the embedded Redis. Without a reachable Redis each process counts alone.",
    )
    user_per_minute: int = Field(
        1200,
        ge=0,
        le=MAX_COUNT,
        validation_alias="RATE_LIMIT_USER",
        description="Requests per minute of one user, with tokens and API keys together; more are answered with 429."
        " 0 disables this limit and likewise each one below.",
    )
    key_per_minute: int = Field(
        1200,
        ge=0,
        le=MAX_COUNT,
        validation_alias="RATE_LIMIT_KEY",
        description="Requests per minute with one API key.",
    )
    address_per_minute: int = Field(
        600,
        ge=0,
        le=MAX_COUNT,
        validation_alias="RATE_LIMIT_ADDRESS",
        description="Requests per minute from one address without a valid token or key, such as logins and refreshes.",
    )
    register_per_hour: int = Field(
        60,
        ge=0,
        le=MAX_COUNT,
        validation_alias="RATE_LIMIT_REGISTER",
        description="Registrations and changes of an email address per hour from one address, failed ones included.",
    )
    resets_per_hour: int = Field(
        20,
        ge=0,
        le=MAX_COUNT,
        validation_alias="RATE_LIMIT_RESET",
        description="Requests per hour from one address for mails that reset a password.",
    )
    resets_account_per_hour: int = Field(
        5,
        ge=0,
        le=MAX_COUNT,
        validation_alias="RATE_LIMIT_RESET_ACCOUNT",
        description="Requests per hour for mails that reset the password of one account, whether or not it exists.",
    )
    exports_per_hour: int = Field(
        10,
        ge=0,
        le=MAX_COUNT,
        validation_alias="RATE_LIMIT_EXPORT",
        description="Exports per hour of one user's whole account.",
    )
    login_failures: int = Field(
        10,
        ge=0,
        le=MAX_COUNT,
        validation_alias="LOGIN_FAILURES",
        description="Failed logins in 15 minutes to one account from one address.",
    )
    login_failures_account: int = Field(
        100,
        ge=0,
        le=MAX_COUNT,
        validation_alias="LOGIN_FAILURES_ACCOUNT",
        description="Failed logins in one hour to one account from all addresses; more block only addresses from which"
        " its owner has not logged in before.",
    )
    login_failures_address: int = Field(
        100,
        ge=0,
        le=MAX_COUNT,
        validation_alias="LOGIN_FAILURES_ADDRESS",
        description="Failed logins in 15 minutes from one address to all accounts.",
    )
