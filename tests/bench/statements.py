"""The statements themselves on tables that grow, and beside a table with an index for each column that is asked for."""

import re
import threading
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg2
from psycopg2.extras import register_uuid
from sqlalchemy import make_url, text

from app.models.columns import new_id
from app.prepared import prepared_form
from app.repositories import every_turn
from tests.bench.bench import Place, percentile
from tests.bench.pgbench import CLIENTS, pgbench
from tests.bench.turns import captured
from tests.factories import Account

MESSAGES = 100  # of each conversation

LOAD = """
INSERT INTO conversations (user_id, id, next_position, message_count)
SELECT :u, {id}, 101, 100 FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS number;
INSERT INTO messages (user_id, conversation_id, position, role, content)
SELECT :u, {id}, position, CASE position % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, repeat('How warm is it? ', 4)
  FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS number, generate_series(1, 100) AS position"""

# The same messages as many would keep them: numbered all together, one index for each column.
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
    """A turn's two statements on a table of so many messages: milliseconds that 95 of 100 do not exceed."""

    messages: int
    begin: float
    finish: float


class Tables:
    """Conversations of CLIENTS users, numbered from 0 for each of them."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.accounts = place.accounts(CLIENTS)
        self.each = 0  # conversations of one user
        [(_, begin), (_, finish)] = captured(place.flask_app, self.accounts[0])
        self._said = {**begin, **finish}

    def grow(self, messages: int) -> None:
        """Until there are so many messages."""
        wanted = messages // MESSAGES // CLIENTS
        for at, account in enumerate(self.accounts):
            with self.place.engine.connect() as connection:
                statement = LOAD.format(id=_sql_id(str(at), "number"))
                connection.execute(text(statement), {"u": account.id, "first": self.each, "last": wanted - 1})
        self.place.analyze()
        self.each = wanted

    def latency(self, seconds: float) -> Latency:
        """CLIENTS run begin and finish, prepared, each in a conversation of its own choice."""
        took: dict[str, list[float]] = {"begin": [], "finish": []}
        end = time.monotonic() + seconds
        clients = [threading.Thread(target=self._client, args=(at, end, took)) for at in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return Latency(self.each * CLIENTS * MESSAGES, *(percentile(took[name], 0.95) * 1000 for name in took))

    def _client(self, at: int, end: float, took: dict[str, list[float]]) -> None:
        account, turn = self.accounts[at], 0
        forms = [prepared_form(one, every_turn.STATEMENTS[one], every_turn.TYPES) for one in took]
        with psycopg2.connect(_dsn(self.place)) as connection:
            connection.autocommit = True
            register_uuid(conn_or_curs=connection)
            cursor = connection.cursor()
            for form in forms:
                cursor.execute(form.prepare)
            while time.monotonic() < end:
                parameters = self._parameters(at, account, turn)
                for form, times in zip(forms, took.values(), strict=True):
                    asked = time.perf_counter()
                    cursor.execute(f"EXECUTE {form.name} {form.arguments}", parameters)
                    assert cursor.fetchone() is not None
                    times.append(time.perf_counter() - asked)
                turn += 1
        connection.close()

    def _parameters(self, at: int, account: Account, turn: int) -> dict[str, Any]:
        """Of both statements, with other ids; a step that is prime to their number passes all conversations."""
        ids = {"user_id": account.id, "session_id": account.session_id, "turn_id": new_id(), "attempt": new_id()}
        return self._said | ids | {"conversation_id": _id(at, turn * 7919 % self.each)}

    def compare(self, seconds: int) -> tuple[float, float]:
        """The last 20 messages of a conversation, so many times a second: ours, and with an index for each column."""
        users = ", ".join(f"'{account.id}'" for account in self.accounts)
        chosen = (
            f"\\set c random(0, {self.each - 1})\n"
            "SELECT {columns} FROM {table} WHERE user_id = "
            f"(ARRAY[{users}]::uuid[])[CAST(:client_id AS int) + 1]"
            " AND conversation_id = {id} ORDER BY {order} DESC LIMIT 20;\n"
        )
        ours = chosen.format(
            columns="position, role, content", table="messages", id=_sql_id(":client_id", ":c"), order="position"
        )
        theirs = chosen.format(
            columns="id, role, content",
            table="by_column",
            id="CAST(:client_id * 65536 + :c AS int)",
            order="created_at",
        )
        return _per_second(self.place, ours, seconds), _per_second(self.place, theirs, seconds)

    def build_by_column(self) -> None:
        """The other table."""
        with self.place.engine.connect() as connection:
            connection.exec_driver_sql(BY_COLUMN.replace("%", "%%"))


def _per_second(place: Place, script: str, seconds: int) -> float:
    said = pgbench(place, script, seconds)
    found = re.search(r"tps = ([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


def _id(user: int, number: int) -> UUID:
    """Of one conversation: its last digits say whose it is, and which of his."""
    return UUID(f"01920000-0000-7000-8000-0000{user:04x}{number:04x}")


def _sql_id(user: str, number: str) -> str:
    digits = f"lpad(to_hex(CAST({user} * 65536 + {number} AS int)), 12, '0')"
    return f"CAST('01920000-0000-7000-8000-' || {digits} AS uuid)"


def _dsn(place: Place) -> str:
    return make_url(place.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
