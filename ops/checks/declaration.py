"""The declaration of a check, beside its function.

    @check("storage.disk", "Is there enough free disk space?", severity=Level.CRITICAL)
    def disk(context: CheckContext) -> Iterator[Finding]:
        ...

A check yields a `Finding` for each problem, and nothing if all is well. It raises `UnknownState` if it cannot determine
the state; findings yielded before that are kept. It only reads. It may rely on the statement timeout of its context.

The decorator only attaches the declaration to the function. `ops/doctor/registry.py` lists the modules with checks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType, ModuleType

from ops.checks.context import CheckContext
from ops.checks.findings import Finding
from ops.levels import Level

CheckFunction = Callable[[CheckContext], Iterator[Finding]]
_DECLARATION = "__check__"


@dataclass(frozen=True, slots=True)
class Check:
    """One question about Parley's health.

    `id` is `group.name`. `severity` is the worst level of its findings. A `thorough` check reads a lot, so it runs only
    on request and once a day.
    """

    id: str
    question: str
    severity: Level
    function: CheckFunction = field(repr=False)
    thorough: bool = False

    @property
    def group(self) -> str:
        """The part of the id before the dot, such as `indexes`."""
        return self.id.partition(".")[0]

    @property
    def runbook(self) -> str:
        """The path of its runbook, relative to the project's folder."""
        return f"docs/runbooks/{self.id.replace('.', '-').replace('_', '-')}.md"


def check(
    check_id: str, question: str, *, severity: Level, thorough: bool = False
) -> Callable[[CheckFunction], CheckFunction]:
    """Declare the decorated function as a check."""

    def attach(function: CheckFunction) -> CheckFunction:
        setattr(function, _DECLARATION, Check(check_id, question, severity, function, thorough))
        return function

    return attach


def checks_of(module: ModuleType) -> tuple[Check, ...]:
    """Return the checks that `module` declares, in the order of their definition.

    Raises `TypeError` for a public function with the signature of a check and no declaration: it would never run.
    """
    checks = list[Check]()
    for name, function in vars(module).items():
        if not isinstance(function, FunctionType) or function.__module__ != module.__name__:
            continue
        declaration = getattr(function, _DECLARATION, None)
        if declaration is not None:
            checks.append(declaration)
        elif not name.startswith("_") and _has_signature_of_check(function):
            raise TypeError(
                f"{module.__name__}.{name} is a check without a declaration, so it would never run: add"
                f" @check(...) to it, or begin its name with an underscore if it is a helper."
            )
    return tuple(checks)


def _has_signature_of_check(function: FunctionType) -> bool:
    return list(function.__annotations__.items()) == [("context", CheckContext), ("return", Iterator[Finding])]
