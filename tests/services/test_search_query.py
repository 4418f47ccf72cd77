"""Search queries: what a person types, as tsqueries, and what they find."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from app.services.search_query import MAX_CLAUSES, parse
from app.services.search_words import cut


def readable(query: str) -> list[list[str]]:
    """Return the clauses of each alternative, the excluded ones with a minus."""
    return [
        [("-" if clause.excluded else "") + clause.tsquery for clause in clauses]
        for clauses in parse(query).alternatives
    ]


@pytest.mark.parametrize(
    ("query", "clauses"),
    [
        ("quokka wom", [["('quokka')", "('wom':*)"]]),
        ("quokka ", [["('quokka')"]]),
        ('"zebra crossing" foo', [["('zebra' <-> 'crossing')", "('foo':*)"]]),
        ('"unclosed phrase', [["('unclosed' <-> 'phrase')"]]),
        ("foo -draft bar", [["('foo')", "-('draft')", "('bar':*)"]]),
        ('-"a b" c', [["-('a' <-> 'b')", "('c':*)"]]),
        ("--dry-run", [["('dry' <-> 'run':*)"]]),
        ("make --dry-run ", [["('make')", "('dry' <-> 'run')"]]),
        ("-draft", [["-('draft')"]]),
        ("a or b", [["('a')"], ["('b':*)"]]),
        ("a OR b c", [["('a')"], ["('b')", "('c':*)"]]),
        ("or", []),
        ("app/errors.py", [["('app' <-> 'errors' <-> 'py':*)"]]),
        ("my_var_n", [["('my' <-> 'var' <-> 'n':*)"]]),
        ("机器学习", [["('机器' <-> '器学' <-> '学习':*)"]]),
        ("机 ", [["('机':*)"]]),
        ("- ! ( & '", []),
    ],
)
def test_query_is_read_as_clauses(query: str, clauses: list[list[str]]) -> None:
    assert readable(query) == clauses


def test_clauses_are_bounded() -> None:
    [clauses] = parse("word " * 1000).alternatives
    assert len(clauses) == MAX_CLAUSES


def found(engine: Engine, document: str, query: str) -> bool:
    """Return whether PostgreSQL finds `document`, written with the word rules, by `query`."""
    vector = " ".join(f"'{term.text}':{term.position}" for term in cut(document))
    with engine.connect() as connection:
        return any(
            all(
                connection.execute(
                    text("SELECT CAST(:vector AS tsvector) @@ CAST(:query AS tsquery)"),
                    {"vector": vector, "query": clause.tsquery},
                ).scalar_one()
                is not clause.excluded
                for clause in clauses
            )
            for clauses in parse(query).alternatives
        )


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ("quokka—wombat", "wombat"),
        ("“zebra crossing” ahead", '"zebra crossing"'),
        ("l’hippopotame dort", "hippopotame"),
        ("Deployment✅ otter", "deployment"),
        ("un café noir", "cafe"),
        ("un cafe\u0301 noir", "café"),
        ("我们昨天讨论了机器学习模型", "机器学习"),
        ("我们昨天讨论了机器学习模型", "型"),
        ("今日は東京タワーへ行きました", "東京タワー"),
        ("ฉันชอบภาษาไทยมาก", "ภาษาไทย"),
        ("학교에서 배웠다", "학교 배웠다"),
        ("see my_var_name here", "my_var_n"),
        ("run it with --dry-run first", "--dry-run"),
        ("upgrade to v2.0.1 today", "2.0.1"),
        ("call getUserName()", "user"),
        ("call getUserName()", "getusername"),
        ("call getUserName()", "getUserName"),
        ("in app/errors.py line 3", "errors.py"),
        ("Привет, мир", "привет"),
        ("नमस्ते दुनिया", "दुनिया"),
        ("مرحبا بالعالم", "مَرحبا"),
    ],
)
def test_document_is_found(engine: Engine, document: str, query: str) -> None:
    assert found(engine, document, query)


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ("nothing of it", "--dry-run"),
        ("crossing the zebra", '"zebra crossing"'),
        ("我们昨天讨论了模型", "机器学习"),
        ("a draft of it", "it -draft"),
        ("dry the run", "dry-run"),
        ("anything", "-"),
    ],
)
def test_document_is_not_found(engine: Engine, document: str, query: str) -> None:
    assert not found(engine, document, query)


@given(query=st.text(max_size=40))
def test_any_query_is_a_tsquery(engine: Engine, query: str) -> None:
    clauses = [clause for alternative in parse(query.replace("\x00", "")).alternatives for clause in alternative]
    if clauses:
        with engine.connect() as connection:
            for clause in clauses:
                connection.execute(
                    text("SELECT CAST(:query AS tsquery)"),
                    {"query": clause.tsquery.encode("utf-8", "replace").decode()},
                )
