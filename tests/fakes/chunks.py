"""Pieces of streams that a test writes by hand."""

import json
from typing import Any


def lines(*data: Any) -> bytes:
    """Return a stream of these: strings as lines as they are, everything else as JSON in a `data:` line."""
    return "".join(
        f"{event if isinstance(event, str) else 'data: ' + json.dumps(event)}\n\n" for event in data
    ).encode()


def delta(content: Any, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, **choice}]}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
DONE = "data: [DONE]"
