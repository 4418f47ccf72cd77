"""The scripts of the fake upstream. Each function returns a script; pauses are in seconds."""

import ast
import json
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.fakes.exchange import Exchange, Script

STREAMS = Path(__file__).parents[1] / "data" / "streams"
MODELS = {"object": "list", "data": [{"id": "fake-model", "object": "model", "created": 0, "owned_by": "tests"}]}
DONE = b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chat.completion.chunk; without a delta its `choices` are empty."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake-model",
        "choices": choices,
    } | more


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def stream_pieces(pieces: Sequence[str], pause: float = 0, first: float = 0) -> Script:
    """Stream these pieces, `first` seconds after the headers and `pause` apart, with a proper end."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.pause(first)
        await exchange.event(chunk({"role": "assistant", "content": ""}))
        for piece in pieces:
            await exchange.event(chunk({"content": piece}))
            await exchange.pause(pause)
        await exchange.event(chunk({}, "stop"))
        request = exchange.json() or {}
        if (request.get("stream_options") or {}).get("include_usage"):
            await exchange.event(chunk(None, usage=usage(7, len(pieces))))
        await exchange.send(DONE)
        await exchange.end()

    return script


def words(count: int = 5, pause: float = 0, first: float = 0) -> Script:
    """Stream `count` words, "word0 word1 ...", `pause` apart."""
    return stream_pieces([f"word{number} " for number in range(count)], pause, first)


def echo(pause: float = 0, pieces: int = 2) -> Script:
    """Answer with the number of messages and the last one, which shows the history that was sent."""

    async def script(exchange: Exchange) -> None:
        messages = exchange.json()["messages"]
        start, rest = f"{len(messages)} messages; ", f"last: {messages[-1]['content']}"
        cuts = [len(rest) * number // (pieces - 1) for number in range(pieces)]
        await stream_pieces([start, *(rest[cut:to] for cut, to in pairwise(cuts))], pause)(exchange)

    return script


def recorded(name: str, size: int = 0, pause: float = 0) -> Script:
    """Send `tests/data/streams/<name>.sse`, in pieces of `size` bytes if given, `pause` apart."""
    data = (STREAMS / f"{name}.sse").read_bytes()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for start in range(0, len(data), size or len(data)):
            await exchange.send(data[start : start + (size or len(data))])
            await exchange.pause(pause)
        await exchange.end()

    return script


def raw(data: bytes, content_type: str | None = "text/event-stream") -> Script:
    """Send a 200 with the body `data`."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, content_type)
        await exchange.send(data)
        await exchange.end()

    return script


def status(code: int, body: Any = None, headers: dict[str, str] | None = None) -> Script:
    """Send a response with this status. `body` is sent as JSON, or as text if it is a string."""

    async def script(exchange: Exchange) -> None:
        text = body if isinstance(body, str) else json.dumps({} if body is None else body)
        data = text.encode()
        kind = "text/html" if isinstance(body, str) else "application/json"
        await exchange.head(code, kind, length=len(data), headers=headers)
        await exchange.send(data)
        await exchange.end()

    return script


def api_error(http: int, message: str = "no", headers: dict[str, str] | None = None, **more: Any) -> Script:
    """Send an error in OpenAI's format. `more` are fields of its error object, such as code."""
    return status(
        http, {"error": {"message": message, "type": "some_error", "param": None, "code": None} | more}, headers
    )


def answer(text: str = "whole", tool_calls: list[dict[str, Any]] | None = None, finish: str = "stop") -> Script:
    """Send JSON instead of the requested stream."""
    message = {"role": "assistant", "content": text, "tool_calls": tool_calls}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return status(200, {"id": "1", "model": "fake-model", "choices": [choice], "usage": usage(3, 4)})


def calls_tool(name: str = "add_task", arguments: str = '{"title": "milk"}') -> Script:
    """Stream one tool call in pieces; if the last message is a tool's result, stream a text."""

    async def script(exchange: Exchange) -> None:
        messages = exchange.json()["messages"]
        if messages[-1]["role"] == "tool":
            await stream_pieces(["The tool said: ", str(messages[-1]["content"])])(exchange)
            return
        await exchange.head()
        function = {"name": name, "arguments": ""}
        first = {"index": 0, "id": "call_1", "type": "function", "function": function}
        await exchange.event(chunk({"role": "assistant", "content": None, "tool_calls": [first]}))
        for piece in (arguments[:4], arguments[4:]):
            await exchange.event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
        await exchange.event(chunk({}, "tool_calls"))
        await exchange.event(chunk(None, usage=usage(9, 3)))
        await exchange.send(DONE)
        await exchange.end()

    return script


def calls(*wanted: tuple[str, str, str], text: str = "", counted: tuple[int, int] = (9, 3)) -> Script:
    """Stream `text`, then these calls: id, tool, arguments. `counted` are the tokens that it reports."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(chunk({"role": "assistant", "content": text}))
        for index, (call_id, name, arguments) in enumerate(wanted):
            call = {
                "index": index,
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            await exchange.event(chunk({"tool_calls": [call]}))
        await exchange.event(chunk({}, "tool_calls"))
        await exchange.event(chunk(None, usage=usage(*counted)))
        await exchange.send(DONE)
        await exchange.end()

    return script


def error_in_stream(code: Any = 502, message: str = "upstream broke", after: int = 1) -> Script:
    """Stream `after` words, then an error object inside the 200, as OpenRouter does."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b": OPENROUTER PROCESSING\n\n")
        for number in range(after):
            await exchange.event(chunk({"content": f"word{number} "}))
        await exchange.event(chunk({"content": ""}, "error", error={"code": code, "message": message}))
        await exchange.end()

    return script


def hang(after: int | None = None) -> Script:
    """Send nothing; or, with `after`, the headers and that many words, and nothing more."""

    async def script(exchange: Exchange) -> None:
        if after is not None:
            await exchange.head()
            for number in range(after):
                await exchange.event(chunk({"content": f"word{number} "}))
        await exchange.pause(None)

    return script


def drip(part: str = "headers", pause: float = 0.02) -> Script:
    """Send one byte at a time, forever: in the `headers`, in the `body` without a newline, or `comments` only."""

    async def script(exchange: Exchange) -> None:
        if part == "headers":
            await exchange.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            step = partial(exchange.write, b"a")
        elif part == "body":
            await exchange.head()
            await exchange.send(b"data: ")
            step = partial(exchange.send, b"a")
        else:
            await exchange.head()
            step = partial(exchange.send, b": ping\n\n")
        while True:
            await step()
            await exchange.pause(pause)

    return script


def cut(after: int = 2, how: str = "close") -> Script:
    """Stream `after` words, then break: `close` inside an HTTP chunk, `reset`, or `clean` but without [DONE]."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for number in range(after):
            await exchange.event(chunk({"content": f"word{number} "}))
        if how == "clean":
            await exchange.end()
        elif how == "reset":
            await exchange.pause(0.05)  # a reset may overtake the words
            exchange.connection.abort()
        else:
            # the connection is not kept, so it closes next
            await exchange.write(b'ff\r\ndata: {"choi')

    return script


def not_http() -> Script:
    """Send bytes that are not HTTP."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(b"\x16\x03\x01 hello, this is another protocol\r\n\r\n")

    return script


def reset() -> Script:
    """Abort the connection before any byte of a response."""

    async def script(exchange: Exchange) -> None:
        exchange.connection.abort()

    return script


def endless(size: int = 1000) -> Script:
    """Stream words of `size` characters without end, as fast as the client reads."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        while True:
            await exchange.event(chunk({"content": "x" * size}))
            await exchange.pause(0.0001)

    return script


def endless_line(size: int = 65536) -> Script:
    """Stream one endless line, as fast as the client reads."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"data: ")
        while True:
            await exchange.send(b"a" * size)
            await exchange.pause(0.0001)

    return script


def parse(text: str) -> Script:
    """Return the script for a call written as text, such as `words(count=3, pause=0.1)`."""
    call = ast.parse(text, mode="eval").body
    functions = {name: value for name, value in globals().items() if callable(value) and not name.startswith("_")}
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in functions:
        raise ValueError(f"{text!r} is not a script; write it as a call, such as words(count=3)")
    positional = [ast.literal_eval(value) for value in call.args]
    named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    script: Script = functions[call.func.id](*positional, **named)
    return script
