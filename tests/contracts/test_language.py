"""The word rules of the glossary, held over code, tests and docs."""

from pathlib import Path

import pytest

from tests.contracts.language import CODE, DOCS, bad_openings, banned_words, files, hits

ROOT = Path(__file__).parents[2]


def broken() -> dict[str, list[str]]:
    """Return what breaks a rule, as `line: text`, by the path of the file."""
    violations = {path.relative_to(ROOT).as_posix(): hits(path) for path in files(ROOT, *CODE, *DOCS)}
    return {path: [f"{hit.line}: {hit.text}" for hit in here] for path, here in violations.items() if here}


def test_code_docs_and_deployment_break_no_word_rule() -> None:
    assert broken() == {}


def test_files_cover_code_docs_and_deployment() -> None:
    paths = {path.relative_to(ROOT).as_posix() for path in files(ROOT, *CODE, *DOCS)}
    assert {"app/factory.py", "wsgi.py", "docs/operations.md", "deploy/nginx/nginx.conf", "Makefile"} <= paths
    assert "docs/glossary.md" not in paths  # quotes the words that it replaces


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Whoever asks is refused.", "Whoever"),
        ("def _told(): ...", "told"),
        ("tell_later = 1", "tell"),
        ("class ToldTurn: ...", "Told"),
        ("NOBODY = 1", "NOBODY"),
        ("no one waits", "no one"),
        ("what came of it", "came of"),
        ("the process hears of a cancel", "hears"),
        ("a process knows its slot", "knows"),
        ("daily_duties = ()", "duties"),
    ],
)
def test_banned_word_is_seen_in_prose_and_identifiers(text: str, word: str) -> None:
    assert word in [hit.text for hit in banned_words(f"\n{text}")]
    assert {hit.line for hit in banned_words(f"\n{text}")} == {2}


@pytest.mark.parametrize(
    "text",
    [
        "listen_addresses = '*'",
        "PostgreSQL listens on port 5432.",
        "    listen 8080;",
        "event.listens_for(engine, 'connect')",
        "cache.forget(key)",
        "intelligence, untold, sheriff, therefore",
    ],
)
def test_field_terms_and_parts_of_words_pass(text: str) -> None:
    assert list(banned_words(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    'The answer.'",
        "async def f():\n    'What is left.'",
        "class C:\n    def f(self):\n        '`None` is returned.'",
        "'Whoever calls this.'",
        "class C:\n    'What is kept.'",
    ],
)
def test_docstring_with_wrong_opening_is_seen(text: str) -> None:
    assert len(list(bad_openings(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "'The routes of turns.'",
        "class C:\n    'One running turn.'",
        "def f():\n    'Return the answer.'",
        "@property\ndef f():\n    'The answer.'",
        "@pytest.fixture\ndef f():\n    'A client.'",
        "def test_x():\n    'The reason for it.'",
        "def f(): ...",
    ],
)
def test_docstring_with_right_opening_passes(text: str) -> None:
    assert list(bad_openings(text)) == []
