"""Logs: one JSON object per line, with the request id and without secrets."""

import json
import logging

import pytest

from app.logs import configure_logging, redact, request_id

SECRETS = [
    ("Authorization: Bearer abc.def-ghi_123", "abc.def-ghi_123"),
    ("sent eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl as a token", "eyJzdWIiOiIxIn0"),
    ("postgresql+psycopg2://parley:hunter2hunter2@db:5432/parley", "hunter2hunter2"),
    ("redis://:hunter2hunter2@127.0.0.1:6379/0", "hunter2hunter2"),
    ("key sk-proj-abcdefgh12345678 was refused", "sk-proj-abcdefgh12345678"),
    ("prl_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo_c2VjcmV0c2VjcmV0 was used", "c2VjcmV0c2VjcmV0"),
    ("{'password': 'hunter2hunter2'}", "hunter2hunter2"),
    ('{"refresh_token": "hunter2hunter2"}', "hunter2hunter2"),
    ("api_key=hunter2hunter2&x=1", "hunter2hunter2"),
    ("GET /api/turns/1/events?ticket=hunter2hunter2 HTTP/1.1", "hunter2hunter2"),
]


@pytest.mark.parametrize(("line", "secret"), SECRETS, ids=[line[:20] for line, _ in SECRETS])
def test_secrets_are_redacted(line: str, secret: str) -> None:
    assert secret not in redact(line)
    assert "[redacted]" in redact(line)


@pytest.mark.parametrize(
    "line", ["Listening at: http://127.0.0.1:8000 (17)", "GET /api/chat 200", "the token has expired"]
)
def test_other_text_is_unchanged(line: str) -> None:
    assert redact(line) == line


def test_line_is_json_with_request_id_and_redacted_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before, level = logging.root.handlers[:], logging.root.level
    try:
        configure_logging("INFO")
        token = request_id.set("a-request")
        try:
            raise RuntimeError("cannot reach redis://:hunter2hunter2@127.0.0.1/0")
        except RuntimeError:
            logging.getLogger("parley.test").exception("failed with %s", "Bearer abcdefgh", extra={"turn_id": "7"})
        finally:
            request_id.reset(token)
        logging.getLogger("parley.test").debug("not at this level")
    finally:
        logging.root.handlers[:] = before
        logging.root.setLevel(level)
    [line] = capfd.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["level"], record["logger"], record["request_id"], record["turn_id"]) == (
        "ERROR",
        "parley.test",
        "a-request",
        "7",
    )
    assert "RuntimeError" in line
    assert "hunter2hunter2" not in line
    assert "abcdefgh" not in line
