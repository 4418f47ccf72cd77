"""Turns over HTTP, next to pgbench running the same two statements; without and with concurrent logins."""

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
from tests.bench.clients import Result, chat_request, send_all
from tests.bench.environment import BenchServer, Environment, percentile
from tests.bench.pgbench import CLIENTS, run_pgbench
from tests.factories import LoggedInUser

IDS = ("conversation_id", "turn_id", "attempt")


@dataclass
class PgbenchTurns:
    """The two statements of a turn, prepared, under pgbench: turns per second, and mean milliseconds of each."""

    per_second: float
    begin: float
    finish: float


@dataclass
class HttpTurns:
    """Turns over HTTP: turns per second, and percentiles of their duration in milliseconds."""

    per_second: float
    p50: float
    p95: float
    p99: float


def measure_pgbench(environment: Environment, seconds: int) -> PgbenchTurns:
    """Run the statements as the application sends them, with new ids for each turn."""
    accounts = environment.accounts(CLIENTS)
    captured = capture_statements(environment.flask_app, accounts[0])
    url = make_url(environment.database_url)
    with psycopg2.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        cursor = connection.cursor()
        begin, finish = (cursor.mogrify(*statement).decode() for statement in captured)
    for number, name in enumerate(IDS):
        new_id = f"('0192000{number}-0000-7000-8000-' || lpad(to_hex(:r::bigint), 12, '0'))::uuid"
        old_id = f"'{captured[0][1][name]}'::uuid"
        begin, finish = begin.replace(old_id, new_id), finish.replace(old_id, new_id)
    for column in ("id", "session_id"):  # each client is another user
        values = ", ".join(f"'{getattr(account, column)}'" for account in accounts)
        new_id = f"(ARRAY[{values}]::uuid[])[:client_id::int + 1]"
        old_id = f"'{getattr(accounts[0], column)}'::uuid"
        begin, finish = begin.replace(old_id, new_id), finish.replace(old_id, new_id)
    # pgbench reads a colon before a word as a variable, so JSON gets a space after each colon.
    script = "\\set r random(1, 281474976710655)\n" + "".join(
        re.sub(r'":(?=\w)', '": ', statement) + ";\n" for statement in (begin, finish)
    )
    output = run_pgbench(environment, script, seconds)
    per_second = re.search(r"tps = ([\d.]+)", output)
    means = re.findall(r"^\s*([\d.]+)\s+\d+\s+(?:INSERT|WITH|SELECT|UPDATE)", output, re.MULTILINE)
    assert per_second and len(means) == 2, output  # noqa: PT018
    return PgbenchTurns(float(per_second[1]), float(means[0]), float(means[1]))


def measure_http(server: BenchServer, tokens: list[str], seconds: float) -> HttpTurns:
    """Let CLIENTS clients send requests, each one as soon as the one before is answered."""
    results: list[Result] = []
    began = time.monotonic()
    asyncio.run(_together([_chat(server, token, began + seconds, results) for token in tokens[:CLIENTS]]))
    return _summary(results, time.monotonic() - began)


def measure_steady(server: BenchServer, tokens: list[str], per_second: int, seconds: int) -> HttpTurns:
    """Start `per_second` turns each second, whether or not earlier ones have ended."""
    requests = [
        chat_request(tokens[turn % len(tokens)], server.port, stream=False) for turn in range(per_second * seconds)
    ]
    began = time.monotonic()
    results = asyncio.run(send_all(server.port, requests, seconds))
    return _summary(results, time.monotonic() - began)


def measure_with_logins(server: BenchServer, accounts: list[LoggedInUser], seconds: float) -> HttpTurns:
    """Measure as `measure_http`, while as many clients log in; a password hash takes 0.25 s of CPU."""
    results: list[Result] = []
    began = time.monotonic()
    end = began + seconds
    chats = [_chat(server, account.access_token, end, results) for account in accounts[:CLIENTS]]
    logins = [_log_in(server, account, end) for account in accounts[CLIENTS : 2 * CLIENTS]]
    asyncio.run(_together([*chats, *logins]))
    return _summary(results, time.monotonic() - began)


def _chat(server: BenchServer, token: str, end: float, results: list[Result]) -> Callable[[], Awaitable[None]]:
    request = chat_request(token, server.port, stream=False)

    async def repeat() -> None:
        while time.monotonic() < end:
            results.extend(await send_all(server.port, [request], 0))

    return repeat


def _log_in(server: BenchServer, account: LoggedInUser, end: float) -> Callable[[], Awaitable[None]]:
    body = orjson.dumps({"email": account.email, "password": account.password})
    head = (
        f"POST /api/auth/login HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    async def repeat() -> None:
        while time.monotonic() < end:
            await send_all(server.port, [head.encode() + body], 0)

    return repeat


async def _together(clients: list[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(client() for client in clients))


def _summary(results: list[Result], seconds: float) -> HttpTurns:
    statuses = {result.status for result in results}
    assert statuses == {b"200"}, statuses
    times = [result.ended * 1000 for result in results if result.ended is not None]
    return HttpTurns(len(results) / seconds, percentile(times, 0.5), percentile(times, 0.95), percentile(times, 0.99))


def capture_statements(flask_app: Flask, account: LoggedInUser) -> list[tuple[str, dict[str, Any]]]:
    """Run one turn and return (statement, parameters) of its begin and its finish."""
    captured: list[tuple[str, dict[str, Any]]] = []
    with flask_app.app_context():
        engine = db.engine

    def record(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "turns.begin_new" in statement or "turns.finish" in statement:
            captured.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", record)
    answer = flask_app.test_client().post("/api/chat", json={"message": "hello"}, headers=account.headers)
    event.remove(engine, "before_cursor_execute", record)
    assert answer.status_code == 200, answer.get_data()
    assert len(captured) == 2, captured
    return captured
