"""The places in the code that give advice: every construction of a finding with a remedy or a statement."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[4]
FOLDERS = ("ops/checks", "ops/doctor", "ops/indexes")
# What findings are made of. A call of one of them in a function of `PASSING` only passes on what another call gave.
CONSTRUCTORS = ("Finding", "index_finding", "Difference", "Contradiction")
PASSING = {"index_finding", "_difference", "contradictions"}
ADVICE = ("remedy", "sql", "step")
_QUESTION = re.compile(r"\?(?= |$)")


@dataclass(frozen=True, slots=True)
class Site:
    """One construction: its path, line and function, and the texts of its remedy."""

    path: str
    line: int
    function: str
    number: int
    texts: tuple[str, ...]
    has_statement: bool
    has_object: bool

    @property
    def name(self) -> str:
        """A name that stays the same when lines move, such as `storage.disk` or `vacuum.vacuum#2`."""
        suffix = f"#{self.number}" if self.number > 1 else ""
        return f"{Path(self.path).stem}.{self.function}{suffix}"

    @property
    def asks(self) -> bool:
        """Whether the remedy is worded as a question."""
        return any(_QUESTION.search(text) for text in self.texts)


def all_sites() -> list[Site]:
    """Return every construction of a finding, in the order of the files."""
    return [site for folder in FOLDERS for path in sorted((PROJECT / folder).rglob("*.py")) for site in _sites_in(path)]


def _sites_in(path: Path) -> Iterator[Site]:
    tree = ast.parse(path.read_text())
    counts: dict[str, int] = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or function.name in PASSING:
            continue
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _is_construction(node)]
        for call in sorted(calls, key=lambda node: node.lineno):
            advice = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg in ADVICE}
            counts[function.name] = counts.get(function.name, 0) + 1
            yield Site(
                str(path.relative_to(PROJECT)),
                call.lineno,
                function.name,
                counts[function.name],
                tuple(_texts(advice["remedy"], function, tree)) if "remedy" in advice else (),
                "sql" in advice or "step" in advice,
                any(keyword.arg == "object" for keyword in call.keywords) or ast.unparse(call.func) != "Finding",
            )


def _is_construction(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in CONSTRUCTORS


def _texts(value: ast.expr, function: ast.FunctionDef, tree: ast.Module) -> Iterator[str]:
    """Yield the string constants of an expression, and those of the variables in it."""
    names = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    for scope in (function, tree):
        for node in ast.walk(scope):
            if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id in names for to in node.targets):
                for inner in ast.walk(node.value):
                    if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                        yield inner.value
