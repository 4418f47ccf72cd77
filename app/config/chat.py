"""Settings of turns and of the AI providers."""

from pydantic import Field, SecretStr

from app.bounds import MAX_BYTES, MAX_COUNT, MAX_HISTORY_MESSAGES, MAX_OUTPUT_TOKENS, MAX_SECONDS, MAX_TEXT
from app.config.values import Fallback, Group, ProviderName


class Chat(Group):
    history_messages: int = Field(
        20,
        ge=0,
        le=MAX_HISTORY_MESSAGES,
        validation_alias="CHAT_HISTORY_MESSAGES",
        description="Earlier messages sent to the provider; projects and requests may ask for fewer.",
    )
    history_chars: int = Field(
        100_000,
        ge=0,
        le=MAX_TEXT,
        validation_alias="CHAT_HISTORY_CHARS",
        description="Characters of earlier messages sent to the provider.",
    )
    max_user_chars: int = Field(
        10_000,
        ge=1,
        le=10_000,
        validation_alias="CHAT_MAX_USER_CHARS",
        description="Characters allowed in a user's message.",
    )
    max_running: int = Field(
        1000,
        ge=1,
        le=MAX_COUNT,
        validation_alias="CHAT_MAX_RUNNING",
        description="Running turns per web worker; more are answered with 503 and Retry-After.",
    )
    max_running_per_user: int = Field(
        20,
        ge=0,
        le=1000,
        validation_alias="CHAT_MAX_RUNNING_PER_USER",
        description="Running turns per user on all servers together; more are answered with 429 and Retry-After."
        " 0 disables the limit.",
    )
    user_max_bytes: int = Field(
        1_000_000_000,
        ge=0,
        le=MAX_BYTES,
        validation_alias="USER_MAX_BYTES",
        description="Bytes of conversations, projects, prompts and tasks that a user may store, unless the user has a"
        " limit of their own; then new turns and imports are answered with 429. 0 disables the limit.",
    )
    user_max_todos: int = Field(
        10_000,
        ge=0,
        le=MAX_COUNT,
        validation_alias="USER_MAX_TASKS",
        description="Tasks that a user may have; then a new one is answered with 409. 0 disables the limit.",
    )
    quota_reserved_output_tokens: int = Field(
        1000,
        ge=0,
        le=MAX_OUTPUT_TOKENS,
        validation_alias="QUOTA_RESERVED_OUTPUT_TOKENS",
        description="Tokens of a daily quota that are reserved for the answer of each running turn.",
    )
    stale_seconds: int = Field(
        15,
        ge=3,
        le=MAX_SECONDS,
        validation_alias="CHAT_STALE_SECONDS",
        description="Seconds without a heartbeat after which a running turn counts as interrupted.",
    )


class Provider(Group):
    name: ProviderName | None = Field(
        None,
        validation_alias="AI_PROVIDER",
        description="demo, openai, openrouter or compatible; unset selects the provider whose key is set, else demo.",
    )
    model: str | None = Field(
        None,
        max_length=200,
        validation_alias="AI_MODEL",
        description="Default model; unset uses the provider's own default.",
    )
    demo_pause_ms: int = Field(
        0,
        ge=0,
        le=1000,
        validation_alias="DEMO_PAUSE_MS",
        description="Milliseconds that the demo provider waits before each word; `make up` sets 30 if it is unset.",
    )
    openai_api_key: SecretStr | None = Field(
        None, validation_alias="OPENAI_API_KEY", description="API key for openai, and for compatible if it needs one."
    )
    openai_base_url: str | None = Field(
        None,
        validation_alias="OPENAI_BASE_URL",
        pattern=r"^https?://",
        description="Base URL of the API, such as http://localhost:11434/v1; required for compatible.",
    )
    openrouter_api_key: SecretStr | None = Field(
        None, validation_alias="OPENROUTER_API_KEY", description="API key for openrouter."
    )
    openrouter_base_url: str = Field(
        "https://openrouter.ai/api/v1",
        validation_alias="OPENROUTER_BASE_URL",
        pattern=r"^https?://",
        description="Base URL of OpenRouter's API.",
    )
    connect_timeout: float = Field(
        5,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="AI_CONNECT_TIMEOUT",
        description="Seconds to wait for a connection to the provider.",
    )
    first_token_timeout: float = Field(
        60,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="AI_FIRST_TOKEN_TIMEOUT",
        description="Seconds to wait for the first part of an answer.",
    )
    idle_timeout: float = Field(
        30,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="AI_IDLE_TIMEOUT",
        description="Seconds to wait between two parts of an answer.",
    )
    total_timeout: float = Field(
        300,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="AI_TOTAL_TIMEOUT",
        description="Seconds for a complete answer, including retries and fallbacks.",
    )
    retries: int = Field(
        2,
        ge=0,
        le=10,
        validation_alias="AI_RETRIES",
        description="Retries per provider after a transient failure, before the answer has begun.",
    )
    circuit_failures: int = Field(
        5,
        ge=1,
        le=MAX_COUNT,
        validation_alias="AI_CIRCUIT_FAILURES",
        description="Consecutive failures after which a web worker opens the circuit of a provider's model.",
    )
    circuit_open_seconds: float = Field(
        30,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="AI_CIRCUIT_OPEN_SECONDS",
        description="Seconds that a circuit stays open; then one trial request decides whether it closes.",
    )
    fallback: Fallback = Field(
        (),
        validation_alias="AI_FALLBACK",
        description="Providers to try in this order, with their default models, when the chosen one fails; separated by"
        " commas. A provider or model that a request names has no fallback; one that a project names has.",
    )
    image_providers: Fallback = Field(
        ("openai", "openrouter"),
        validation_alias="AI_IMAGES",
        description="Providers that get the images of messages, separated by commas; add compatible if the models of"
        " that server take images. A request that is rejected because of its images is repeated without them.",
    )
