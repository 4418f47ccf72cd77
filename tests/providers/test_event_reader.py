"""The parser of server-sent events, without HTTP."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.answer import ARGUMENT_CHARS, TOOL_CALLS, Answer
from app.providers.sse import DONE, LINE_BYTES, EventReader, ProtocolError
from app.text import clean_text, shortened, without_secrets
from tests.fakes.scripts import chunk


def read(*pieces: bytes) -> list[object]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [*events, *reader.end()]


json_objects = st.dictionaries(
    st.text(), st.text() | st.integers(-(2**53), 2**53) | st.none() | st.booleans(), max_size=4
)


@given(
    events=st.lists(json_objects, max_size=5),
    indent=st.sampled_from([None, 1]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from(["", "\ufeff"]),
    space=st.sampled_from(["", " "]),
    noise=st.sampled_from(["", ": ping", "event: x", "id: 1", "retry: 5", "nonsense"]),
    size=st.integers(1, 40),
)
def test_events_are_parsed_in_any_encoding_and_split(
    events: list[object], indent: int | None, newline: str, mark: str, space: str, noise: str, size: int
) -> None:
    lines: list[str] = []
    for event in events:
        text = json.dumps(event, indent=indent, ensure_ascii=False)
        # U+2028 does not end a line: only LF, CR LF and CR do
        lines += [noise, *(f"data:{space}{line}" for line in text.split("\n")), ""]
    data = (mark + newline.join([*lines, "data: [DONE]", "", ""])).encode("utf-8", "surrogatepass")
    assert read(*(data[at : at + size] for at in range(0, len(data), size))) == [*events, DONE]


def test_cr_completes_an_event() -> None:
    reader = EventReader()
    assert list(reader.feed(b"\xef\xbb")) == []
    assert list(reader.feed(b'\xbfdata: {\rdata: "a": 1}\r\r')) == [{"a": 1}]
    assert list(reader.feed(b"\ndata: {\r")) == []
    assert list(reader.feed(b'\ndata: "a": 2}\r\n\r')) == [{"a": 2}]


def test_one_newline_separates_json_events() -> None:
    assert read(b'data: {"a": 1}\ndata: {"a": 2}\n') == [{"a": 1}, {"a": 2}]


def test_event_without_data_is_ignored() -> None:
    assert read(b"data:\n\ndata: \r\n\r\nevent: x\n\n") == []


def test_line_length_is_limited() -> None:
    almost = b'data: "' + b"a" * (LINE_BYTES - 100) + b'"\n\n'
    assert len(read(almost)) == 1
    with pytest.raises(ProtocolError):
        read(*[b"a" * 1000] * (LINE_BYTES // 1000 + 2))


def test_truncated_answer_has_no_tool_calls() -> None:
    answer = Answer("m")
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a'}}
    answer.add(chunk({"tool_calls": [call]}, "length"))
    assert answer.completed().tool_calls is None


def test_tool_calls_are_limited() -> None:
    answer = Answer("m")
    piece = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "a" * (ARGUMENT_CHARS // 2)}}
    for _ in range(3):
        answer.add(chunk({"tool_calls": [piece]}))
    assert answer.full
    assert answer.completed().finish_reason == "length"
    calls = [{"index": index, "function": {"name": "f"}} for index in range(TOOL_CALLS + 1)]
    Answer("m").add(chunk({"tool_calls": calls[:-1]}))
    with pytest.raises(ProtocolError):
        Answer("m").add(chunk({"tool_calls": calls}))


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": -1}, {"prompt_tokens": "7"}, {"prompt_tokens": 1e30}, {"prompt_tokens": True}]
)
def test_invalid_token_counts_are_ignored(usage: dict[str, object]) -> None:
    answer = Answer("m")
    answer.add(chunk({"content": "a"}, "stop", usage=usage))
    assert answer.completed().usage.input_tokens is None


@given(st.text(st.characters() | st.characters(categories=["Cs"]) | st.just("\0")))
def test_clean_text_can_be_stored(text: str) -> None:
    cleaned = clean_text(text)
    assert "\0" not in cleaned
    cleaned.encode("utf-8")
    assert len(cleaned) == len(text)
    assert clean_text(cleaned) == cleaned


def test_secrets_are_redacted_and_text_shortened() -> None:
    assert without_secrets("your key abc is wrong", "abc", "") == "your key [redacted] is wrong"
    assert without_secrets("Bearer eyJhbGciOi") == "[redacted]"
    assert without_secrets("id 0123456789abcdef0123456789abcdef") == "id [redacted]"
    assert without_secrets("the model anthropic/claude-sonnet-4.5-20250929 is unknown").endswith("is unknown")
    assert shortened("a  b\nc", 10) == "a b c"
    assert shortened("abcdefgh", 6) == "abc..."
