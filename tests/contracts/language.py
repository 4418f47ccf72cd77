"""The word rules of the glossary: banned words and docstring openings, as data and as functions.

`python -m tests.contracts.language PATH...` prints each hit as `path:line: word`, then a rate per 1,000 lines.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Words that stand where the field has a term. A synonym is no cure, so both are here.
BANNED = re.compile(
    r"\b("
    r"told|retold|retells?|tells?|telling"  # returned, reported, replayed, printed
    r"|(?:some|no|any|every)(?:body|one)|no one|who(?:m)?ever|whosoever|whom"  # user, caller, client, process
    r"|anew|mend(?:s|ed|ing)?|lucky|riddles?|beyond|meddl\w+"
    r"|he|him|his|himself|she|her|hers"
    r"|whatever|wherever|whenever|whichever"
    r"|gone on with|left alone|go(?:es)? along|comes? of it|came of|came to|look(?:s|ed)? after"
    r"|hear[sd]?|heard|speak(?:s)?|spoken|listens?|listening to"  # a process receives, reads, subscribes
    r"|knows|knew|dut(?:y|ies)"  # has, reads, is given; routine
    r"|hung up|hangs? up|forgets?|forgotten|forgot"
    r"|for want of|in vain|by itself alone|in between|meanwhile"
    r")\b",
    re.IGNORECASE,
)
# Public terms in which a banned word is a part of the field's own language, and a former name in the changelog.
ALLOWED = re.compile(
    r"listen_addresses|\.listen-address"
    r"|\blisten \d|LISTEN\b|event\.listen(?:s_for)?|listens? on|event\.listen|\blisten\(|forget(?:_|\()"
    r"|def tell\(|\.tell\("  # the position in a file
    r"|[\"`]nobody[\"`]"  # the name of the unprivileged user of Unix
    r"|erasures\.nobody_came_back|duties\.(?:daily|weekly|monthly)|`duty`",  # former names
)
# A function's docstring begins with a verb; these are the words with which a noun phrase or a clause begins.
_OPENINGS = """
    a all an and any as at because both by each either else every everything few for from he his how i if in into
    it its just like many more most much neither never no none nor not nothing now of on once one only or other
    others our ours she since so some something such than that the their them then there these they this those
    though to true false until up we what when where whether which while who whoever whose why with within without
    yes you
"""
NOT_A_VERB = frozenset(_OPENINGS.split())
# The docstring of a module or a class is a noun phrase; a clause begins with one of these.
_CLAUSES = "because how if what when where whether which who whoever whose why"
A_CLAUSE = frozenset(_CLAUSES.split())
CODE = ("app", "ops", "tasks", "migrations", "tests", "wsgi.py")
DOCS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs",
    "deploy",
    "Makefile",
    "Procfile",
    ".ci/run",
    ".env.example",
    "docker-compose.yml",
    "Dockerfile",
    "pyproject.toml",
)
SUFFIXES = frozenset({".py", ".md", ".html", ".js", ".sql", ".conf", ".template", ".mako"})
EXCLUDED = ("tests/contracts/language.py", "tests/contracts/test_language.py", "docs/glossary.md")


@dataclass(frozen=True, slots=True)
class Hit:
    """One place that breaks a rule: its line, counted from 1, and what stands there."""

    line: int
    text: str


def banned_words(text: str) -> Iterator[Hit]:
    """Yield each banned word of `text`. Identifiers are split at underscores and capitals first."""
    for number, line in enumerate(text.splitlines(), 1):
        plain = ALLOWED.sub(" ", line)
        split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"[_]+", " ", plain))
        for match in BANNED.finditer(split):
            yield Hit(number, match[0])


def bad_openings(text: str) -> Iterator[Hit]:
    """Yield each docstring with a wrong opening.

    A function's begins with a verb, except that properties, fixtures and tests may have a noun phrase. A module's or a
    class's is a noun phrase, so it does not begin with the first word of a clause.
    """
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            continue
        opening = re.match(r"[\W_]*(\w+)", ast.get_docstring(node) or "")
        if opening and opening[1].lower() in _forbidden_openings(node):
            name = getattr(node, "name", "module")
            yield Hit(getattr(node, "lineno", 1), f"{name}: {(ast.get_docstring(node) or '').splitlines()[0][:60]}")


def _forbidden_openings(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) -> frozenset[str]:
    if isinstance(node, ast.ClassDef | ast.Module):
        return A_CLAUSE
    if node.name.startswith("test_") or any(_is_property(decorator) for decorator in node.decorator_list):
        return frozenset()
    return NOT_A_VERB


def _is_property(decorator: ast.expr) -> bool:
    names = [part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", "") for part in ast.walk(decorator)]
    return any(name in ("property", "cached_property", "hybrid_property", "fixture", "setter") for name in names)


def files(root: Path, *places: str) -> list[Path]:
    """Return the files under `places` that the rules hold for."""
    collected: list[Path] = []
    for place in places:
        path = root / place
        collected += [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.suffix in SUFFIXES)
    return [path for path in collected if path.relative_to(root).as_posix() not in EXCLUDED]


def hits(path: Path) -> list[Hit]:
    """Return everything in the file at `path` that breaks a rule."""
    text = path.read_text()
    return [*banned_words(text), *(bad_openings(text) if path.suffix == ".py" else ())]


def main() -> None:
    """Print the hits under the given paths."""
    root, lines, count = Path.cwd(), 0, 0
    for path in files(root, *(sys.argv[1:] or (*CODE, *DOCS))):
        lines += path.read_text().count("\n")
        for hit in hits(path):
            count += 1
            print(f"{path.relative_to(root)}:{hit.line}: {hit.text}")  # noqa: T201
    print(f"{count} hits in {lines} lines, {1000 * count / max(1, lines):.1f} per 1,000")  # noqa: T201


if __name__ == "__main__":
    main()
