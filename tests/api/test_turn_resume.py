"""Resuming a stream: the text that a correct client assembles is the stored answer for each point of disconnect."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.event_source import TurnReader, parse
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.waiting import wait_until

Rows = Callable[..., list[Any]]
WORDS = "".join(f"word{number} " for number in range(20))
LAST_ID = 23  # of a stream with 20 deltas


@pytest.fixture(scope="module")
def other_app(make_chat_app: Callable[..., Flask]) -> Flask:
    return make_chat_app()


@pytest.fixture(scope="module")
def demo_app(make_chat_app: Callable[..., Flask]) -> Flask:
    return make_chat_app(provider={"name": "demo"})


@pytest.fixture
def answer(rows: Rows, user: LoggedInUser) -> Callable[[TurnReader], str]:
    """Return a function that waits until a turn has ended and returns its stored answer; "" if there is none."""

    def answer(reader: TurnReader) -> str:
        key = {"u": user.id, "t": reader.turn["id"]}
        status = "SELECT status FROM turns WHERE user_id = :u AND id = :t"
        wait_until(lambda: rows(status, **key)[0].status != "running", "the end of the turn")
        answers = rows("SELECT content FROM messages WHERE user_id = :u AND turn_id = :t AND role = 'assistant'", **key)
        return answers[0].content if answers else ""

    return answer


@pytest.fixture
def purge(engine: Engine, user: LoggedInUser) -> Callable[[], None]:
    """Return a function that deletes the stored events, as the job does after TURN_EVENTS_KEEP_HOURS."""

    def purge() -> None:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM turn_events WHERE user_id = :u"), {"u": user.id})

    return purge


def begin(flask_app: Flask, user: LoggedInUser, count: int | None = None, **body: Any) -> TurnReader:
    """Start a streamed turn, read `count` events and disconnect."""
    headers = {**user.headers, **body.pop("headers", {})}
    body = {"message": "hello", "stream": True, **body}
    return _read(flask_app.test_client().post("/api/chat", json=body, headers=headers), TurnReader(), count)


def resume(flask_app: Flask, user: LoggedInUser, reader: TurnReader, count: int | None = None) -> TurnReader:
    """Continue after the last event of `reader`."""
    headers = {**user.headers, "Last-Event-ID": str(reader.last_id)}
    path = f"/api/turns/{reader.turn['id']}/events"
    return _read(flask_app.test_client().get(path, headers=headers), reader, count)


def _read(response: TestResponse, reader: TurnReader, count: int | None) -> TurnReader:
    assert response.status_code == 200, response.get_data()
    reader.read(parse(response.response), count)
    response.close()
    return reader


@pytest.mark.parametrize("process", ["same", "other"])
@pytest.mark.parametrize("pause", [0.0, 0.03])
@pytest.mark.parametrize("count", [1, 2, 5, 20, 21, 22])
def test_resumed_text_is_stored_answer(
    chat_app: Flask,
    other_app: Flask,
    user: LoggedInUser,
    upstream: Upstream,
    answer: Callable[[TurnReader], str],
    process: str,
    pause: float,
    count: int,
) -> None:
    upstream.script = scripts.words(20, pause=pause)
    reader = begin(chat_app, user, count)
    resume(chat_app if process == "same" else other_app, user, reader)
    assert reader.text == answer(reader) == WORDS
    assert "turn.restarted" not in reader.kinds
    assert (reader.end, reader.last_id) == ("turn.completed", LAST_ID)


@pytest.mark.parametrize("repetition", range(20))
def test_demo_answer_resumes_after_event_5(
    demo_app: Flask, user: LoggedInUser, answer: Callable[[TurnReader], str], repetition: int
) -> None:
    """The demo completes its answer before the first reader disconnects."""
    reader = begin(demo_app, user, 5)
    resume(demo_app, user, reader)
    assert reader.text == answer(reader)
    assert reader.kinds.count("message.delta") > 20  # the stored events, not one delta with the complete answer


@pytest.mark.parametrize("is_purged", [False, True])
@pytest.mark.parametrize("after", range(1, LAST_ID))
def test_ended_stream_resumes_from_any_event(
    chat_app: Flask,
    other_app: Flask,
    user: LoggedInUser,
    upstream: Upstream,
    answer: Callable[[TurnReader], str],
    purge: Callable[[], None],
    after: int,
    is_purged: bool,
) -> None:
    upstream.script = scripts.words(20)
    reader = begin(chat_app, user, after)
    assert answer(reader) == WORDS
    if is_purged:
        purge()
    resume(other_app, user, reader)
    assert (reader.text, reader.end, reader.last_id) == (WORDS, "turn.completed", LAST_ID)
    assert reader.message is not None
    assert reader.message["content"] == WORDS
    assert ("turn.restarted" in reader.kinds) is (is_purged and 1 < after < LAST_ID - 2)


def test_replay_of_purged_stream_resumes_from_any_event(
    chat_app: Flask,
    other_app: Flask,
    user: LoggedInUser,
    upstream: Upstream,
    answer: Callable[[TurnReader], str],
    purge: Callable[[], None],
) -> None:
    """The connection breaks after each event."""
    upstream.script = scripts.words(20)
    reader = begin(chat_app, user, 5)
    assert answer(reader) == WORDS
    purge()
    for _ in range(10):
        resume(other_app, user, reader, count=1)
        if reader.end:
            break
        if reader.kinds[-1] == "turn.restarted":
            resume(other_app, user, reader, count=2)
    assert (reader.text, reader.end, reader.last_id) == (WORDS, "turn.completed", LAST_ID)


def test_partly_purged_stream_is_replayed_from_answer(
    chat_app: Flask, other_app: Flask, user: LoggedInUser, upstream: Upstream, engine: Engine
) -> None:
    """The purge deletes by age, so it may leave the later events of a turn."""
    upstream.script = scripts.words(20, pause=0.05)  # one second, so several batches
    reader = begin(chat_app, user)
    with engine.begin() as connection:
        connection.execute(
            text("""
            DELETE FROM turn_events AS event WHERE user_id = :u AND sequence =
                   (SELECT min(sequence) FROM turn_events WHERE user_id = :u AND turn_id = event.turn_id)"""),
            {"u": user.id},
        )
        assert connection.execute(text("SELECT count(*) FROM turn_events WHERE user_id = :u"), {"u": user.id}).scalar()
    for last_id, prefix in ((0, ""), (1, ""), (2, "word0 "), (3, "word0 word1 ")):
        resumed = resume(other_app, user, TurnReader(last_id=last_id, text=prefix, turn=reader.turn))
        assert resumed.text == WORDS
    later = resume(other_app, user, TurnReader(last_id=20, text=WORDS.removesuffix("word19 "), turn=reader.turn))
    assert later.text == WORDS
    assert "turn.restarted" not in later.kinds


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("is_purged", [False, True])
@pytest.mark.parametrize("process", ["same", "other"])
def test_reader_of_failed_attempt_resumes_after_retry(
    chat_app: Flask,
    other_app: Flask,
    user: LoggedInUser,
    upstream: Upstream,
    answer: Callable[[TurnReader], str],
    purge: Callable[[], None],
    count: int,
    is_purged: bool,
    process: str,
) -> None:
    """Three words, then a failure: the ids 1 to 4, a partial answer and `turn.failed`."""
    resuming_app = chat_app if process == "same" else other_app
    upstream.script = scripts.cut(3)
    key = {"Idempotency-Key": "once"}
    first = begin(chat_app, user, count, headers=key)
    absent = TurnReader(last_id=first.last_id, text=first.text, turn=first.turn)
    assert answer(first) == "word0 word1 word2 "
    resume(resuming_app, user, first)
    assert (first.text, first.end) == ("word0 word1 word2 ", "turn.failed")

    upstream.script = scripts.words(20, pause=0.02)
    retried = begin(chat_app, user, 3, headers=key)
    assert retried.kinds[0] == "turn.restarted"
    resume(resuming_app, user, retried)
    if is_purged:
        purge()
    resume(resuming_app, user, absent)
    for reader in (retried, absent):
        assert (reader.text, reader.end) == (WORDS, "turn.completed")


def test_repeated_request_with_last_event_id_continues(
    chat_app: Flask, other_app: Flask, user: LoggedInUser, upstream: Upstream
) -> None:
    """Some clients reconnect by repeating the POST."""
    upstream.script = scripts.words(20, pause=0.03)
    headers = {"Idempotency-Key": "once"}
    reader = begin(chat_app, user, 5, headers=headers)
    for flask_app, count in ((chat_app, 3), (other_app, 3), (chat_app, None)):
        headers["Last-Event-ID"] = str(reader.last_id)
        repeated = begin(flask_app, user, count, headers=headers)
        assert repeated.kinds[0] == "message.delta"
        reader.text, reader.last_id, reader.end = reader.text + repeated.text, repeated.last_id, repeated.end
    assert (reader.text, reader.end, reader.last_id) == (WORDS, "turn.completed", LAST_ID)


def test_first_request_with_last_event_id_streams_all_events(chat_app: Flask, user: LoggedInUser) -> None:
    reader = begin(chat_app, user, headers={"Last-Event-ID": "99"})
    assert reader.kinds[0] == "turn.started"
    assert reader.end == "turn.completed"


@pytest.mark.parametrize("process", ["same", "other"])
@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("later", [0, 1, 1_000_000, 9_999_999_999])
def test_no_events_left_returns_204(
    chat_app: Flask, other_app: Flask, user: LoggedInUser, process: str, is_stream: bool, later: int
) -> None:
    body = {"message": "hello", "stream": is_stream}
    response = chat_app.test_client().post("/api/chat", json=body, headers=user.headers)
    if is_stream:
        reader = TurnReader().read(parse(response.get_data()))
    else:
        reader = resume(chat_app, user, TurnReader(turn=response.get_json()["turn"]))
    flask_app = chat_app if process == "same" else other_app
    headers = {**user.headers, "Last-Event-ID": str(min(reader.last_id + later, 9_999_999_999))}
    ended = flask_app.test_client().get(f"/api/turns/{reader.turn['id']}/events", headers=headers)
    assert (ended.status_code, ended.get_data()) == (204, b"")


def test_started_event_names_new_conversation(
    chat_app: Flask, other_app: Flask, user: LoggedInUser, purge: Callable[[], None]
) -> None:
    reader = begin(chat_app, user, message="What is  new?")
    assert reader.conversation == {"id": reader.turn["conversation_id"], "title": "What is new?"}
    purge()
    replayed = resume(other_app, user, TurnReader(turn=reader.turn))
    assert replayed.kinds[0] == "turn.started"
    assert replayed.conversation == reader.conversation
    later = begin(chat_app, user, message="And now?", conversation_id=reader.turn["conversation_id"])
    assert later.conversation == reader.conversation
