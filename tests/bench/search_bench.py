"""Cost and precision of search in 100,000 messages of scripts without spaces and of English.

    python -m tests.bench.search_bench [--messages 100000] [--queries 200]

Texts are random sequences of known words, without spaces where the script has none. So it is known which texts hold a
word, and which hold its characters by chance, across two words or inside a longer one: a search finds both, and the
second kind is a false hit. Random neighbours are the worst case, because real neighbours are not any two words.
"""

import argparse
import json
import random
import time
from collections import defaultdict
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine, text

from app.config import load_settings
from app.ids import new_id
from app.services.conversations import search
from app.services.search_index import index_stale
from app.services.search_query import parse
from tests.bench.report import console
from tests.factories import insert_user
from tests.faults.live_server import application, own_postgres

PER_CONVERSATION = 20
WORDS_PER_MESSAGE = 20
VOCABULARY = {
    script: words.split()
    for script, words in json.loads((Path(__file__).parents[1] / "data" / "search_words.json").read_text()).items()
}


def main() -> None:
    """Fill a database, measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.search_bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    dice = random.Random(1)
    with own_postgres() as (url, _), application(load_settings(env_file=None), url) as (flask_app, engine):
        owner = insert_user(flask_app, engine).id
        texts = _fill(engine, owner, options.messages, dice)
        with flask_app.app_context():
            started = time.monotonic()
            written = index_stale(limit=10**9, seconds=3600).written
            seconds = time.monotonic() - started
            console.print(f"{options.messages / seconds:,.0f} messages/s indexed, {written:,} conversations")
            for script, vocabulary in VOCABULARY.items():
                _measure(owner, script, vocabulary, texts[script], options.queries, dice)


def _fill(engine: Engine, owner: UUID, messages: int, dice: random.Random) -> dict[str, dict[UUID, list[list[str]]]]:
    """Write the messages; return the words of each, by script and conversation."""
    texts: dict[str, dict[UUID, list[list[str]]]] = defaultdict(dict)
    scripts = list(VOCABULARY)
    with engine.begin() as connection:
        for number in range(messages // PER_CONVERSATION):
            script, conversation = scripts[number % len(scripts)], new_id()
            contents = [dice.choices(VOCABULARY[script], k=WORDS_PER_MESSAGE) for _ in range(PER_CONVERSATION)]
            texts[script][conversation] = contents
            separator = " " if script == "English" else ""
            connection.execute(
                text(
                    "WITH c AS (INSERT INTO conversations (user_id, id, next_position, message_count)"
                    " VALUES (:u, :c, :n + 1, :n))"
                    " INSERT INTO messages (user_id, conversation_id, position, role, content)"
                    " SELECT :u, :c, number, 'user', content"
                    " FROM unnest(CAST(:contents AS text[])) WITH ORDINALITY AS m(content, number)"
                ),
                {
                    "u": owner,
                    "c": conversation,
                    "n": PER_CONVERSATION,
                    "contents": [separator.join(words) for words in contents],
                },
            )
    with engine.connect() as connection:
        connection.execute(text("ANALYZE"))
    return texts


def _measure(
    owner: UUID,
    script: str,
    vocabulary: list[str],
    texts: dict[UUID, list[list[str]]],
    queries: int,
    dice: random.Random,
) -> None:
    """Search for words and for pairs of neighbours, and compare with the words that are known."""
    took, hits, false, missed = list[float](), 0, 0, 0
    for number in range(queries):
        words = dice.sample(vocabulary, 1 + number % 2)
        query = " ".join(words) + " "
        started = time.perf_counter()
        found = {row.conversation.id for row in search(owner, parse(query), status=None, limit=100)[:100]}
        took.append((time.perf_counter() - started) * 1000)
        holding = {
            conversation
            for conversation, messages in texts.items()
            if all(any(word in content for content in messages) for word in words)
        }
        hits += len(found)
        false += len(found - holding)
        missed += len(holding) if len(found) < min(100, len(holding)) else 0
    took.sort()
    console.print(
        f"{script:9} {queries} queries: p50 {took[len(took) // 2]:.0f} ms, p95 {took[int(len(took) * 0.95)]:.0f} ms,"
        f" {hits:,} hits, {100 * false / max(1, hits):.2f}% false, {missed} missed"
    )


if __name__ == "__main__":
    main()
