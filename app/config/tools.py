"""Settings of the tools that a model may call."""

from pydantic import Field

from app.bounds import MAX_COUNT, MAX_DAYS, MAX_SECONDS, MAX_TEXT
from app.config.values import Group


class Tools(Group):
    enabled: bool = Field(
        True, validation_alias="TOOLS_ENABLED", description="Whether models are offered tools, such as to-do tasks."
    )
    max_rounds: int = Field(
        8,
        ge=1,
        le=64,
        validation_alias="TOOL_MAX_ROUNDS",
        description="Rounds of tool calls in one turn; then the model must answer without tools.",
    )
    parallel: int = Field(
        4,
        ge=1,
        le=32,
        validation_alias="TOOL_PARALLEL",
        description="Calls of one round that run at the same time.",
    )
    call_timeout: float = Field(
        30,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="TOOL_CALL_TIMEOUT",
        description="Seconds for one call of a tool.",
    )
    total_timeout: float = Field(
        300,
        gt=0,
        le=MAX_SECONDS,
        validation_alias="TOOL_TOTAL_TIMEOUT",
        description="Seconds for the rounds of a turn with tool calls; then the model must answer without tools.",
    )
    result_chars: int = Field(
        50_000,
        ge=100,
        le=MAX_COUNT,
        validation_alias="TOOL_RESULT_CHARS",
        description="Characters of a result that the model receives; longer ones are cut and marked.",
    )
    total_result_chars: int = Field(
        200_000,
        ge=100,
        le=MAX_TEXT,
        validation_alias="TOOL_TOTAL_RESULT_CHARS",
        description="Characters of all results of a turn that the model receives; the rest is cut and marked.",
    )
    calls_keep_days: int = Field(
        30,
        ge=1,
        le=MAX_DAYS,
        validation_alias="TOOL_CALLS_KEEP_DAYS",
        description="Days to keep the record of a call that must not be repeated; until then, a retried turn does not"
        " make it again.",
    )
