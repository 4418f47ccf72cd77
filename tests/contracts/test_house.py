"""The rules of the house, read from the source: each test lists what breaks one, and wants an empty list."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from app.api.access import Access
from app.factory import BLUEPRINTS

ROOT = Path(__file__).parents[2]
EVERYWHERE = ("app", "ops", "tasks", "migrations", "tests", "wsgi.py")
LONGEST = 500  # lines
# In these the package says once what each file is: its entity.
ONE_FILE_PER_ENTITY = ("app/models/", "app/api/schemas/")
# Who may name a library that everybody else reaches through a module of ours.
HOMES = {"prometheus_client": ("app/metrics/",), "celery": ("app/jobs.py", "tasks/")}
OUR_BLUEPRINT = "app/api/blueprint.py"

Rule = Callable[[str, ast.Module], Iterator[str]]


@cache
def sources(*roots: str) -> dict[str, str]:
    """The text of each Python file by its path."""
    found = {path for root in roots for path in (ROOT / root).rglob("*.py")} | {
        ROOT / root for root in roots if root.endswith(".py")
    }
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(found)}


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), path)


def broken(rule: Rule, *roots: str) -> list[str]:
    """What breaks `rule` in the files under `roots`, as `path:line name`."""
    assert sources(*roots)
    return [f"{path}:{what}" for path in sources(*roots) for what in rule(path, tree(path))]


def names(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of whatever a module names itself: classes, functions, parameters, variables, attributes."""
    for node in ast.walk(module):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name


def imported(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports."""
    for node in ast.walk(module):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom(module=str(origin), level=0):
                yield node.lineno, origin
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def called_app(path: str, module: ast.Module) -> Iterator[str]:
    """It is a package; the objects are flask_app and celery_app."""
    yield from (f"{line} {name}" for line, name in names(module) if name == "app")


def called_task(path: str, module: ast.Module) -> Iterator[str]:
    """A job runs under Celery, a to-do is a person's: inside the application nothing goes by the word for both."""
    if "task" in path.lower():
        yield "1 the file itself"
    # The table keeps its public name, which is a string.
    yield from (f"{line} {name}" for line, name in names(module) if "task" in name.lower())


def without_docstring(path: str, module: ast.Module) -> Iterator[str]:
    if module.body and not ast.get_docstring(module) and not path.startswith(ONE_FILE_PER_ENTITY):
        yield "1 says nowhere what it is for"


def not_annotated(path: str, module: ast.Module) -> Iterator[str]:
    """Public functions, and public methods of public classes."""
    for function in _public_functions(module):
        every = function.args
        parameters = [*every.posonlyargs, *every.args, *every.kwonlyargs, *filter(None, [every.vararg, every.kwarg])]
        bare = [each.arg for each in parameters if each.annotation is None and each.arg not in ("self", "cls")]
        if bare or function.returns is None:
            yield f"{function.lineno} {function.name}({', '.join(bare)})"


def _public_functions(within: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in within.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not re.match("_(?!_)", node.name):
            yield node


def library_out_of_its_home(path: str, module: ast.Module) -> Iterator[str]:
    for line, name in imported(module):
        library = name.partition(".")[0]
        if library in HOMES and not path.startswith(HOMES[library]):
            yield f"{line} {library}"


def foreign_blueprint(path: str, module: ast.Module) -> Iterator[str]:
    """Ours cannot be made without an access; Flask's and flask-smorest's own can."""
    if path != OUR_BLUEPRINT:
        yield from (
            f"{line} {name}" for line, name in imported(module) if re.fullmatch(r"flask\w*(\..+)?\.Blueprint", name)
        )


def test_nothing_is_called_app() -> None:
    assert broken(called_app, *EVERYWHERE) == []


def test_nothing_in_the_application_is_called_task() -> None:
    assert broken(called_task, "app") == []


def test_every_module_says_what_it_is_for() -> None:
    assert broken(without_docstring, "app", "ops", "tasks") == []


def test_public_functions_are_annotated() -> None:
    assert broken(not_annotated, "app", "ops", "tasks") == []


def test_only_their_homes_name_prometheus_and_celery() -> None:
    assert broken(library_out_of_its_home, "app", "ops", "tasks", "wsgi.py") == []


def test_no_file_is_too_long() -> None:
    lengths = {path: len(text.splitlines()) for path, text in sources("app", "ops", "tasks").items()}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST} == {}


def test_every_blueprint_declares_who_may_enter() -> None:
    assert BLUEPRINTS
    assert [blueprint.name for blueprint in BLUEPRINTS if not isinstance(blueprint.access, Access)] == []
    assert broken(foreign_blueprint, "app", "ops", "wsgi.py") == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (called_app, "x.py", "def make(app): ..."),
        (called_app, "x.py", "for app in (): ..."),
        (called_app, "x.py", "import flask as app"),
        (called_task, "app/tasks.py", ""),
        (called_task, "app/x.py", "class TaskSchema: ..."),
        (called_task, "app/x.py", "class X:\n    def __init__(self): self.task_id = 1"),
        (without_docstring, "app/x.py", "import os"),
        (not_annotated, "app/x.py", "def f(a: int, *, b): ..."),
        (not_annotated, "app/x.py", "class X:\n    def f(self, *a: int): ..."),
        (library_out_of_its_home, "app/api/x.py", "from celery.utils import log"),
        (library_out_of_its_home, "ops/x.py", "import prometheus_client.registry"),
        (foreign_blueprint, "app/api/x.py", "from flask import Blueprint"),
        (foreign_blueprint, "ops/api/x.py", "from flask_smorest import Blueprint"),
    ],
)
def test_the_rules_see_what_breaks_them(rule: Rule, path: str, text: str) -> None:
    assert list(rule(path, ast.parse(text)))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (called_app, "x.py", "import app.models\nfrom app import errors\nflask_app = 1"),
        (called_task, "app/models/todo.py", "class Todo:\n    __tablename__ = 'tasks'"),
        (without_docstring, "app/__init__.py", ""),
        (not_annotated, "app/x.py", "def _f(a): ...\nclass X:\n    def f(self) -> None: ..."),
        (library_out_of_its_home, "app/metrics/x.py", "from prometheus_client import Counter"),
        (library_out_of_its_home, "tasks/worker.py", "from celery import Celery"),
        (foreign_blueprint, "app/api/x.py", "from app.api.blueprint import Blueprint"),
    ],
)
def test_the_rules_let_the_rest_be(rule: Rule, path: str, text: str) -> None:
    assert list(rule(path, ast.parse(text))) == []


def test_imports_flow_downhill() -> None:
    """The import contracts of pyproject.toml, all of them kept."""
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
