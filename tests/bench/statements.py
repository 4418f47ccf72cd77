"""The statements of a turn on growing tables, and the last messages compared with one index per column."""

import re
import threading
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg2
from psycopg2.extras import register_uuid
from sqlalchemy import make_url, text

from app.ids import new_id
from app.prepared_statements import prepared_form
from app.repositories import prepared_turns
from tests.bench.environment import Environment, percentile
from tests.bench.pgbench import CLIENTS, run_pgbench
from tests.bench.turns import capture_statements
from tests.factories import LoggedInUser

MESSAGES = 100  # of each conversation
STRIDE = 7919  # prime to the number of conversations, so that its multiples visit all of them

LOAD = """
INSERT INTO conversations (user_id, id, next_position, message_count)
SELECT :u, {id}, 101, 100 FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS number;
INSERT INTO messages (user_id, conversation_id, position, role, content)
SELECT :u, {id}, position, CASE position % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, repeat('How warm is it? ', 4)
  FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS number, generate_series(1, 100) AS position"""

# The same messages in a common design: one serial id, and one index for each column.
BY_COLUMN = """
CREATE TABLE by_column (id serial, conversation_id int NOT NULL, user_id uuid NOT NULL, role text NOT NULL,
                        content text NOT NULL, created_at timestamp NOT NULL);
INSERT INTO by_column (conversation_id, user_id, role, content, created_at)
SELECT ('x' || right(conversation_id::text, 7))::bit(28)::int, user_id, role, content,
       now() + make_interval(secs => position * 60 + random() * 60) FROM messages WHERE position <= 100;
ALTER TABLE by_column ADD PRIMARY KEY (id);
CREATE INDEX ON by_column (conversation_id);
CREATE INDEX ON by_column (user_id);
CREATE INDEX ON by_column (created_at);
ANALYZE by_column"""


@dataclass
class Latency:
    """The 95th percentiles of a turn's two statements in milliseconds, on a table of `messages`."""

    messages: int
    begin: float
    finish: float


class Tables:
    """Conversations of CLIENTS users, numbered from 0 for each user."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.accounts = environment.accounts(CLIENTS)
        self.conversations = 0  # of each user
        [(_, begin), (_, finish)] = capture_statements(environment.flask_app, self.accounts[0])
        self._captured = {**begin, **finish}

    def grow(self, messages: int) -> None:
        """Add conversations until there are `messages`."""
        conversations = messages // MESSAGES // CLIENTS
        for user, account in enumerate(self.accounts):
            with self.environment.engine.connect() as connection:
                statement = LOAD.format(id=_sql_id(str(user), "number"))
                parameters = {"u": account.id, "first": self.conversations, "last": conversations - 1}
                connection.execute(text(statement), parameters)
        self.environment.analyze()
        self.conversations = conversations

    def measure_latency(self, seconds: float) -> Latency:
        """Run begin and finish, prepared, with CLIENTS clients in different conversations."""
        times: dict[str, list[float]] = {"begin": [], "finish": []}
        end = time.monotonic() + seconds
        clients = [threading.Thread(target=self._run_client, args=(user, end, times)) for user in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        p95 = {name: percentile(values, 0.95) * 1000 for name, values in times.items()}
        return Latency(self.conversations * CLIENTS * MESSAGES, p95["begin"], p95["finish"])

    def _run_client(self, user: int, end: float, times: dict[str, list[float]]) -> None:
        account, turn = self.accounts[user], 0
        forms = [prepared_form(name, prepared_turns.STATEMENTS[name], prepared_turns.TYPES) for name in times]
        with psycopg2.connect(_dsn(self.environment)) as connection:
            connection.autocommit = True
            register_uuid(conn_or_curs=connection)
            cursor = connection.cursor()
            for form in forms:
                cursor.execute(form.prepare)
            while time.monotonic() < end:
                parameters = self._parameters(user, account, turn)
                for form, values in zip(forms, times.values(), strict=True):
                    began = time.perf_counter()
                    cursor.execute(f"EXECUTE {form.name} {form.arguments}", parameters)
                    assert cursor.fetchone() is not None
                    values.append(time.perf_counter() - began)
                turn += 1
        connection.close()

    def _parameters(self, user: int, account: LoggedInUser, turn: int) -> dict[str, Any]:
        """Return the parameters of both statements, with new ids."""
        ids = {"user_id": account.id, "session_id": account.session_id, "turn_id": new_id(), "attempt": new_id()}
        return self._captured | ids | {"conversation_id": _id(user, turn * STRIDE % self.conversations)}

    def compare_last_messages(self, seconds: int) -> tuple[float, float]:
        """Read the last 20 messages of a conversation; return reads per second here and with one index per column."""
        users = ", ".join(f"'{account.id}'" for account in self.accounts)
        query = (
            f"\\set c random(0, {self.conversations - 1})\n"
            "SELECT {columns} FROM {table} WHERE user_id = "
            f"(ARRAY[{users}]::uuid[])[CAST(:client_id AS int) + 1]"
            " AND conversation_id = {id} ORDER BY {order} DESC LIMIT 20;\n"
        )
        parley = query.format(
            columns="position, role, content", table="messages", id=_sql_id(":client_id", ":c"), order="position"
        )
        by_column = query.format(
            columns="id, role, content",
            table="by_column",
            id="CAST(:client_id * 65536 + :c AS int)",
            order="created_at",
        )
        return _per_second(self.environment, parley, seconds), _per_second(self.environment, by_column, seconds)

    def build_by_column(self) -> None:
        """Create the table with one index for each column."""
        with self.environment.engine.connect() as connection:
            connection.exec_driver_sql(BY_COLUMN.replace("%", "%%"))


def _per_second(environment: Environment, script: str, seconds: int) -> float:
    output = run_pgbench(environment, script, seconds)
    match = re.search(r"tps = ([\d.]+)", output)
    assert match is not None, output
    return float(match[1])


def _id(user: int, number: int) -> UUID:
    """Return a conversation's id; its last digits are the numbers of the user and of the conversation."""
    return UUID(f"01920000-0000-7000-8000-0000{user:04x}{number:04x}")


def _sql_id(user: str, number: str) -> str:
    """Return the SQL expression of the same id."""
    digits = f"lpad(to_hex(CAST({user} * 65536 + {number} AS int)), 12, '0')"
    return f"CAST('01920000-0000-7000-8000-' || {digits} AS uuid)"


def _dsn(environment: Environment) -> str:
    return make_url(environment.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
