"""Whole turns over HTTP, beside PostgreSQL doing the same two statements and nothing else; alone and beside logins."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg2
from flask import Flask
from sqlalchemy import event, make_url

from app.extensions import db
from tests.bench.bench import Place, Server, percentile
from tests.bench.clients import Heard, chat, listen
from tests.bench.pgbench import CLIENTS, pgbench
from tests.factories import Account

IDS = ("conversation_id", "turn_id", "attempt")


@dataclass
class Bare:
    """pgbench with the two statements of a turn, prepared: turns a second, and the mean milliseconds of each."""

    per_second: float
    begin: float
    finish: float


@dataclass
class Turns:
    """Turns over HTTP: how many a second, and how long one takes, in milliseconds."""

    per_second: float
    p50: float
    p95: float
    p99: float


def bare(place: Place, seconds: int) -> Bare:
    """The statements as the application sends them, with other ids each time."""
    accounts = place.accounts(CLIENTS)
    sent = captured(place.flask_app, accounts[0])
    url = make_url(place.database_url)
    with psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        cursor = connection.cursor()
        begin, finish = (cursor.mogrify(*each).decode() for each in sent)
    for number, name in enumerate(IDS):
        anew = f"('0192000{number}-0000-7000-8000-' || lpad(to_hex(:r::bigint), 12, '0'))::uuid"
        begin, finish = (each.replace(f"'{sent[0][1][name]}'::uuid", anew) for each in (begin, finish))
    for own in ("id", "session_id"):  # each client is somebody else
        everybody = ", ".join(f"'{getattr(account, own)}'" for account in accounts)
        anew = f"(ARRAY[{everybody}]::uuid[])[:client_id::int + 1]"
        begin, finish = (each.replace(f"'{getattr(accounts[0], own)}'::uuid", anew) for each in (begin, finish))
    # pgbench takes a colon before a word for a variable of its own; JSON does not mind a blank.
    script = "\\set r random(1, 281474976710655)\n" + "".join(
        re.sub(r'":(?=\w)', '": ', each) + ";\n" for each in (begin, finish)
    )
    said = pgbench(place, script, seconds)
    per_second = re.search(r"tps = ([\d.]+)", said)
    means = re.findall(r"^\s*([\d.]+)\s+\d+\s+(?:INSERT|WITH|SELECT|UPDATE)", said, re.MULTILINE)
    assert per_second and len(means) == 2, said  # noqa: PT018
    return Bare(float(per_second[1]), float(means[0]), float(means[1]))


def over_http(server: Server, tokens: list[str], seconds: float) -> Turns:
    """CLIENTS ask, each again as soon as it has its answer."""
    heard: list[Heard] = []

    async def one(token: str, end: float) -> None:
        request = chat(token, server.port, stream=False)
        while time.monotonic() < end:
            heard.extend(await listen(server.port, [request], 0))

    began = time.monotonic()
    asyncio.run(_together([lambda token=token: one(token, began + seconds) for token in tokens[:CLIENTS]]))
    return _summary(heard, time.monotonic() - began)


def steady(server: Server, tokens: list[str], per_second: int, seconds: int) -> Turns:
    """So many turns begin each second, whether or not the others have ended."""
    requests = [chat(tokens[turn % len(tokens)], server.port, stream=False) for turn in range(per_second * seconds)]
    began = time.monotonic()
    heard = asyncio.run(listen(server.port, requests, seconds))
    return _summary(heard, time.monotonic() - began)


def beside_logins(server: Server, accounts: list[Account], seconds: float) -> Turns:
    """As `over_http`, while as many log in again and again: a password takes a quarter of a second of CPU."""
    heard: list[Heard] = []

    async def chats(token: str, end: float) -> None:
        request = chat(token, server.port, stream=False)
        while time.monotonic() < end:
            heard.extend(await listen(server.port, [request], 0))

    async def logins(account: Account, end: float) -> None:
        body = orjson.dumps({"email": account.email, "password": account.password})
        head = (
            f"POST /api/auth/login HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        while time.monotonic() < end:
            await listen(server.port, [head.encode() + body], 0)

    began = time.monotonic()
    end = began + seconds
    chatting = [lambda account=account: chats(account.access_token, end) for account in accounts[:CLIENTS]]
    logging_in = [lambda account=account: logins(account, end) for account in accounts[CLIENTS : 2 * CLIENTS]]
    asyncio.run(_together([*chatting, *logging_in]))
    return _summary(heard, time.monotonic() - began)


async def _together(jobs: list[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(job() for job in jobs))


def _summary(heard: list[Heard], seconds: float) -> Turns:
    assert {one.status for one in heard} == {b"200"}, {one.status for one in heard}
    times = [one.ended * 1000 for one in heard if one.ended is not None]
    return Turns(len(heard) / seconds, percentile(times, 0.5), percentile(times, 0.95), percentile(times, 0.99))


def captured(flask_app: Flask, account: Account) -> list[tuple[str, dict[str, Any]]]:
    """(statement, parameters) of begin and of finish, as one turn sends them."""
    found: list[tuple[str, dict[str, Any]]] = []
    with flask_app.app_context():
        engine = db.engine

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "turns.begin_new" in statement or "turns.finish" in statement:
            found.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    answer = flask_app.test_client().post("/api/chat", json={"message": "hello"}, headers=account.headers)
    event.remove(engine, "before_cursor_execute", note)
    assert answer.status_code == 200, answer.get_data()
    assert len(found) == 2, found
    return found
