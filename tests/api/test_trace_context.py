"""W3C Trace Context: what a caller sends is logged and passed on, or ignored if it is invalid."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from app.logs import configure_logging
from app.trace_context import parse_trace_context
from tests.fakes.upstream import Upstream

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"

INVALID = [
    "",
    "00",
    TRACE,
    f"00-{TRACE.upper()}-b7ad6b7169203331-01",
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-b7ad6b7169203331-01",
    f"{PARENT}-more",
    f"{PARENT}-",
    f"00-{TRACE}-b7ad6b7169203331-1",
    f"{PARENT},{PARENT}",
    f"01-{TRACE}-b7ad6b7169203331-01-{'x' * 300}",
    f"00-{TRACE}-b7ad6b7169203331-٠١",
]


@pytest.mark.parametrize("traceparent", INVALID)
def test_invalid_traceparent_is_ignored(traceparent: str) -> None:
    assert parse_trace_context(traceparent, "vendor=1") is None


@pytest.mark.parametrize("traceparent", [PARENT, f"01-{TRACE}-b7ad6b7169203331-00-later", f" {PARENT} "])
def test_valid_traceparent_is_passed_on_unchanged(traceparent: str) -> None:
    context = parse_trace_context(traceparent, "vendor=1,other=2")
    assert context is not None
    assert context.trace_id == TRACE
    assert context.headers == {"traceparent": traceparent.strip(), "tracestate": "vendor=1,other=2"}


@pytest.mark.parametrize("tracestate", ["", "x" * 513, "vendor=ü", "vendor=\x01"])
def test_invalid_tracestate_is_left_out(tracestate: str) -> None:
    context = parse_trace_context(PARENT, tracestate)
    assert context is not None
    assert context.headers == {"traceparent": PARENT}


@pytest.fixture
def log_lines(chat: Callable[..., TestResponse]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Return a function that reads what was logged so far, in the format of production."""
    handlers, level, output = logging.root.handlers[:], logging.root.level, io.StringIO()
    configure_logging("INFO")
    handler = logging.root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(output)
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    logging.root.handlers[:], logging.root.level = handlers, level


@pytest.mark.parametrize("stream", [False, True])
def test_provider_and_log_get_the_trace_of_the_request(
    chat: Callable[..., TestResponse],
    upstream: Upstream,
    log_lines: Callable[[], list[dict[str, Any]]],
    stream: bool,
) -> None:
    sent = {"traceparent": PARENT, "tracestate": "vendor=1", "X-Request-ID": "my-request"}
    response = chat("hello", headers=sent, stream=stream)
    assert response.get_data()
    request = upstream.requests[-1]
    assert (request.headers["traceparent"], request.headers["tracestate"]) == (PARENT, "vendor=1")
    lines = [line for line in log_lines() if line["logger"] == "parley.http"]
    assert [(line["request_id"], line["trace_id"]) for line in lines] == [("my-request", TRACE)]

    chat("again", stream=stream).get_data()
    assert not {"traceparent", "tracestate"} & set(upstream.requests[-1].headers)
    assert "trace_id" not in log_lines()[-1]
