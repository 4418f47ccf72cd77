"""Structural rules of the source code: names, imports, docstrings, annotations, lengths and layers."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from app import errors
from app.api.access import Access
from app.factory import BLUEPRINTS

ROOT = Path(__file__).parents[2]
ALL_CODE = ("app", "ops", "tasks", "migrations", "tests", "wsgi.py")
MAX_LINES = 500
# In these packages, each file contains the class that it is named after and needs no docstring.
ONE_FILE_PER_ENTITY = ("app/models/", "app/api/schemas/")
# The only places that may import a library; all others use the modules there.
HOMES = {"prometheus_client": ("app/metrics/",), "celery": ("app/jobs/", "tasks/")}
BLUEPRINT_MODULE = "app/api/blueprint.py"
# Context variables; docs/adr/0021-ambient-values.md has the reason for each.
AMBIENT = {
    ("app/logs.py", "request_id"),
    ("app/trace_context.py", "trace_context"),
    ("app/services/transactions.py", "unit_of_work"),
    ("app/services/interruption.py", "cancel_token"),
    ("ops/runs/progress.py", "progress_sink"),
}

Rule = Callable[[str, ast.Module], Iterator[str]]


@cache
def sources(*roots: str) -> dict[str, str]:
    """Return the text of each Python file under `roots` by its path."""
    paths = {path for root in roots for path in (ROOT / root).rglob("*.py")} | {
        ROOT / root for root in roots if root.endswith(".py")
    }
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(paths)}


@cache
def tree(path: str) -> ast.Module:
    """Parse the file at `path`."""
    return ast.parse((ROOT / path).read_text(), path)


def violations(rule: Rule, *roots: str) -> list[str]:
    """Return the violations of `rule` in the files under `roots`, as `path:line name`."""
    assert sources(*roots)
    return [f"{path}:{violation}" for path in sources(*roots) for violation in rule(path, tree(path))]


def names(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of each class, function, parameter, variable and attribute that a module defines."""
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
    """Yield line and dotted name of everything a module imports."""
    for node in ast.walk(module):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom(module=str(origin), level=0):
                yield node.lineno, origin
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def named_app(path: str, module: ast.Module) -> Iterator[str]:
    """Yield each name `app`: that is the package; the objects are flask_app and celery_app."""
    yield from (f"{line} {name}" for line, name in names(module) if name == "app")


def named_task(path: str, module: ast.Module) -> Iterator[str]:
    """Yield each name with `task`, which is ambiguous: a job runs under Celery, a to-do belongs to a user."""
    if "task" in path.lower():
        yield "1 file name"
    # The table keeps its public name, which is only a string.
    yield from (f"{line} {name}" for line, name in names(module) if "task" in name.lower())


def without_docstring(path: str, module: ast.Module) -> Iterator[str]:
    """Yield a module that has code and no docstring."""
    if module.body and not ast.get_docstring(module) and not path.startswith(ONE_FILE_PER_ENTITY):
        yield "1 module"


def not_annotated(path: str, module: ast.Module) -> Iterator[str]:
    """Yield each public function, or public method of a public class, that lacks annotations."""
    for function in _public_functions(module):
        args = function.args
        parameters = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, [args.vararg, args.kwarg])]
        missing = [arg.arg for arg in parameters if arg.annotation is None and arg.arg not in ("self", "cls")]
        if missing or function.returns is None:
            yield f"{function.lineno} {function.name}({', '.join(missing)})"


def _public_functions(scope: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in scope.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not re.match("_(?!_)", node.name):
            yield node


def misplaced_import(path: str, module: ast.Module) -> Iterator[str]:
    """Yield each import of a library outside its home."""
    for line, name in imported(module):
        library = name.partition(".")[0]
        if library in HOMES and not path.startswith(HOMES[library]):
            yield f"{line} {library}"


def unnamed_query(path: str, module: ast.Module) -> Iterator[str]:
    """Yield each query of the application that is executed without a name, such as `/* projects.get */`.

    The name is in the argument, or in what the function assigns to the argument's variable.
    """
    if path.startswith(("app/dialect", "app/prepared_statements")):  # SQL of the driver
        return
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    for function, call in ((outer, node) for outer in functions for node in ast.walk(outer)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or not call.args:
            continue
        if call.func.attr in ("execute", "scalars", "scalar") and not _is_named(call.args[0], function):
            yield f"{path}:{call.lineno}: {ast.unparse(call.args[0])}"


def _is_named(query: ast.expr, function: ast.FunctionDef) -> bool:
    variables = {node.id for node in ast.walk(query) if isinstance(node, ast.Name)}
    assigned = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and variables & {name.id for name in node.targets if isinstance(name, ast.Name)}
    ]
    texts = [
        node.value
        for expression in (query, *assigned)
        for node in ast.walk(expression)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return any(re.search(r"/\* [a-z_]+\.[a-z_]+ ", text) for text in texts)


def foreign_blueprint(path: str, module: ast.Module) -> Iterator[str]:
    """Yield each import of another Blueprint class; only that of app.api.blueprint requires an access."""
    if path != BLUEPRINT_MODULE:
        yield from (
            f"{line} {name}" for line, name in imported(module) if re.fullmatch(r"flask\w*(\..+)?\.Blueprint", name)
        )


def incomplete_metadata(path: str, module: ast.Module) -> Iterator[str]:
    """Yield each import of `Base` from its own module: its metadata has no tables until all models are imported."""
    if not path.startswith("app/models/"):
        yield from (f"{line} {name}" for line, name in imported(module) if name == "app.extensions.Base")


def test_no_name_is_app() -> None:
    assert violations(named_app, *ALL_CODE) == []


def test_no_name_in_app_contains_task() -> None:
    assert violations(named_task, "app") == []


def test_modules_have_docstrings() -> None:
    assert violations(without_docstring, "app", "ops", "tasks") == []


def test_public_functions_are_annotated() -> None:
    assert violations(not_annotated, "app", "ops", "tasks") == []


def test_prometheus_and_celery_are_imported_only_in_their_homes() -> None:
    assert violations(misplaced_import, "app", "ops", "tasks", "wsgi.py") == []


def test_every_query_of_the_application_has_a_name() -> None:
    assert violations(unnamed_query, "app") == []


def test_base_is_imported_with_all_models() -> None:
    assert violations(incomplete_metadata, "app", "ops", "tasks", "migrations") == []


def test_files_have_at_most_500_lines() -> None:
    lengths = {path: len(text.splitlines()) for path, text in sources("app", "ops", "tasks").items()}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_every_blueprint_declares_its_access() -> None:
    assert BLUEPRINTS
    assert [blueprint.name for blueprint in BLUEPRINTS if not isinstance(blueprint.access, Access)] == []
    assert violations(foreign_blueprint, "app", "ops", "wsgi.py") == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (named_app, "x.py", "def make(app): ..."),
        (named_app, "x.py", "for app in (): ..."),
        (named_app, "x.py", "import flask as app"),
        (named_task, "app/tasks.py", ""),
        (named_task, "app/x.py", "class TaskSchema: ..."),
        (named_task, "app/x.py", "class X:\n    def __init__(self): self.task_id = 1"),
        (without_docstring, "app/x.py", "import os"),
        (not_annotated, "app/x.py", "def f(a: int, *, b): ..."),
        (not_annotated, "app/x.py", "class X:\n    def f(self, *a: int): ..."),
        (misplaced_import, "app/api/x.py", "from celery.utils import log"),
        (misplaced_import, "ops/x.py", "import prometheus_client.registry"),
        (unnamed_query, "app/repositories/x.py", "def f(session): return session.scalars(select(User)).all()"),
        (unnamed_query, "app/services/x.py", "def f(c):\n    query = select(User)\n    c.execute(query.limit(1))"),
        (incomplete_metadata, "ops/x.py", "from app.extensions import Base, db"),
        (foreign_blueprint, "app/api/x.py", "from flask import Blueprint"),
        (foreign_blueprint, "ops/api/x.py", "from flask_smorest import Blueprint"),
    ],
)
def test_rule_finds_violation(rule: Rule, path: str, text: str) -> None:
    assert list(rule(path, ast.parse(text)))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (named_app, "x.py", "import app.models\nfrom app import errors\nflask_app = 1"),
        (named_task, "app/models/todo.py", "class Todo:\n    __tablename__ = 'tasks'"),
        (without_docstring, "app/__init__.py", ""),
        (not_annotated, "app/x.py", "def _f(a): ...\nclass X:\n    def f(self) -> None: ..."),
        (misplaced_import, "app/metrics/x.py", "from prometheus_client import Counter"),
        (misplaced_import, "tasks/worker.py", "from celery import Celery"),
        (unnamed_query, "app/x.py", "def f(c): c.execute(select(User).prefix_with('/* users.get */').limit(1))"),
        (unnamed_query, "app/x.py", "def f(c):\n    q = select(U).prefix_with('/* users.get */')\n    c.scalars(q)"),
        (incomplete_metadata, "ops/x.py", "from app.models import Base, User"),
        (foreign_blueprint, "app/api/x.py", "from app.api.blueprint import Blueprint"),
    ],
)
def test_rule_accepts_valid_code(rule: Rule, path: str, text: str) -> None:
    assert list(rule(path, ast.parse(text))) == []


def test_import_contracts_are_kept() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ambient_values_are_those_of_the_decision() -> None:
    declared = {
        (path, ast.literal_eval(node.args[0]))
        for path in sources("app", "ops", "tasks")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and "ContextVar" in ast.unparse(node.func)
    }
    assert declared == AMBIENT


def test_drawing_of_errors_has_each_class_below_its_base() -> None:
    drawn, path = {}, ["ParleyError"]
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([ │]*)[├└]── (\w+)", line):
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            drawn[match[2]] = path[depth - 1]
    classes = [value for value in vars(errors).values() if isinstance(value, type) and value is not errors.ParleyError]
    assert drawn == {
        error.__name__: error.__bases__[0].__name__ for error in classes if error.__module__ == "app.errors"
    }
