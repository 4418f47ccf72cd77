"""The options of a turn: those of its project, replaced one by one by those of the request."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.enums import ResponseFormatType


def merged_options(project: Mapping[str, Any] | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which the provider is asked. Of the tools, those that both allow remain."""
    options = {**(project or {}), **request}
    options["tools"] = _narrowed((project or {}).get("tools"), request.get("tools"))
    if (options.get("response_format") or {}).get("type") == ResponseFormatType.TEXT:
        del options["response_format"]  # the default, which not every server accepts by name
    return options


def history_of(project: Mapping[str, Any] | None, request: Mapping[str, Any], bound: int) -> int:
    """Return the number of earlier messages that the model gets, at most `bound`."""
    wanted = request.get("history", (project or {}).get("history"))
    return bound if wanted is None else min(bound, wanted)


def _narrowed(offered: Sequence[str] | None, wanted: Sequence[str] | None) -> Sequence[str] | None:
    if offered is None or wanted is None:
        return wanted if offered is None else offered
    return [name for name in wanted if name in offered]
