"""Structured logs: one JSON object per line, with the ids of the request and of its trace, and without secrets."""

import logging
import re
import sys
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from app.trace_context import trace_context

# Empty outside a request. Set by app/api/request_ids.py, and in a turn's greenlet for the request that began the turn.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_SECRETS = re.compile(
    r"(?P<kept>[\"']?(?:password|secret|token|ticket|api[_-]?key|authorization)\w*[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic)\s+)?|"
    r"\b(?:bearer|basic)\s+)"
    r"[^\s\"',;&@]+"
    r"|(?<=://)[^/\s@]+(?=@)"
    r"|(?:\b(?:sk|pk|prl|prr|ghp|xox[a-z])[-_][\w-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Redact anything in `text` that looks like a password, token, API key or credential in a URL.

    Ids, hashes and trace ids stay. Texts of providers, which users see, are redacted by `app.text.without_secrets`.
    """
    return _SECRETS.sub(lambda match: f"{match['kept'] or ''}[redacted]", text)


class _Formatter(JsonFormatter):
    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        super().add_fields(log_data, record, message_dict)
        if current := request_id.get():
            log_data["request_id"] = current
        if trace := trace_context.get():
            log_data["trace_id"] = trace.trace_id

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {key: redact(value) if isinstance(value, str) else value for key, value in log_data.items()}


def configure_logging(level: str) -> None:
    """Log `level` and above to standard error as JSON. Call it once per process; a second call changes the level."""
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
    # At INFO these repeat the request's log line or log URLs.
    for name in ("urllib3", "httpx2", "openai", "alembic.runtime.plugins", "app.pool"):
        logging.getLogger(name).setLevel(logging.WARNING)
