"""Structured logs: one JSON object a line, with the request's id, and never a secret."""

import logging
import re
import sys
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter

# Empty outside a request. Set by app/api/request_ids.py, and by the turn's own greenlet for the request that began it.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_SECRETS = re.compile(
    r"(?P<kept>[\"']?(?:password|secret|token|api[_-]?key|authorization)\w*[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic)\s+)?|"
    r"\b(?:bearer|basic)\s+)"
    r"[^\s\"',;&@]+"
    r"|(?<=://)[^/\s@]+(?=@)"
    r"|(?:\b(?:sk|pk|prl|ghp|xox[a-z])[-_][\w-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """`text` without what looks like a password, token, API key or credential in a URL."""
    return _SECRETS.sub(lambda match: f"{match['kept'] or ''}[redacted]", text)


class _Formatter(JsonFormatter):
    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        super().add_fields(log_data, record, message_dict)
        if current := request_id.get():
            log_data["request_id"] = current

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {key: redact(value) if isinstance(value, str) else value for key, value in log_data.items()}


def configure_logging(level: str) -> None:
    """Write `level` and above to standard error as JSON. Call once per process; a second call changes the level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            datefmt="%Y-%m-%dT%H:%M:%S%z",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    # Each of these says at INFO what our own request line says better, or shows URLs.
    for chatty in ("urllib3", "httpx2", "openai", "alembic.runtime.plugins", "app.pool"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
