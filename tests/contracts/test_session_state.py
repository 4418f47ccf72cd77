"""No code sets, locks or prepares anything in a session that a pooler may share."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Statements, in upper case as all SQL here, that leave something in a session. SET LOCAL and UPDATE ... SET do not.
LEAVES = re.compile(
    r"^\s*(?:SET\s+(?!LOCAL\b|TRANSACTION\b|NULL\b|DEFAULT\b|NOT\b)\w|RESET\s+\w|LISTEN\s|PREPARE\s+(?!TRANSACTION)\w|CREATE\s+TEMP)"
    r"|;\s*SET\s+(?!LOCAL\b)\w|set_config\([^)]*,\s*false\)|pg_(?:try_)?advisory_lock",
    re.DOTALL,
)
# Modules that do so, and why that is safe.
ALLOWED = {
    "app/prepared_statements.py": "it prepares nothing on a connection through a pooler",
    "migrations/env.py": "it refuses a pooler",
    "ops/indexes/apply.py": "it refuses a pooler",
    "ops/indexes/checks/hot_queries.py": "it prepares and deallocates in one transaction",
    "ops/indexes/statement_run.py": "ops/indexes/apply.py opens its session",
    "ops/runs/locks.py": "it refuses a pooler",
}


def sql_texts(path: Path) -> Iterator[str]:
    """Return the strings of a module that are not docstrings, with a placeholder for what an f-string inserts."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | parts:
            yield node.value


def modules_that_leave_something() -> set[str]:
    paths = [path for folder in ("app", "ops", "tasks") for path in (ROOT / folder).rglob("*.py")]
    return {
        str(path.relative_to(ROOT))
        for path in [*paths, ROOT / "migrations" / "env.py"]
        if any(LEAVES.search(text) for text in sql_texts(path))
    }


def test_only_listed_modules_leave_something_in_a_session() -> None:
    assert modules_that_leave_something() == set(ALLOWED)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SET statement_timeout = 0", True),
        ("SELECT set_config('lock_timeout', %s, false)", True),
        ("SELECT pg_try_advisory_lock(1)", True),
        ("PREPARE x AS SELECT 1", True),
        ("SET LOCAL statement_timeout = 0", False),
        ("SELECT set_config('lock_timeout', %s, true)", False),
        ("UPDATE users SET name = 'x'", False),
        ("BEGIN READ ONLY; SET LOCAL statement_timeout = 1", False),
    ],
)
def test_session_statement_is_recognised(sql: str, found: bool) -> None:
    assert bool(LEAVES.search(sql)) is found
