"""The golden files of the turns' SQL: each statement's text as it is sent, in `sql/<name>.sql`.

`python -m tests.repositories.golden_sql` rewrites them.
"""

from itertools import product
from pathlib import Path

from app.repositories import (
    turn_caller,
    turn_diagnosis,
    turn_events,
    turn_files,
    turn_finish,
    turn_history,
    turn_limits,
    turn_stale,
    turns,
)
from app.repositories.statement import Statement
from app.repositories.turn_begin import BeginKind, variant

FOLDER = Path(__file__).with_name("sql")
COMMAND = "python -m tests.repositories.golden_sql"


def golden_texts() -> dict[str, str]:
    """Return the text of each statement by the name of its file, with a line break at the end."""
    modules = (
        turns,
        turn_caller,
        turn_diagnosis,
        turn_events,
        turn_files,
        turn_finish,
        turn_history,
        turn_limits,
        turn_stale,
    )
    statements = {
        f"{module.__name__.rsplit('.', 1)[1]}.{name.lower()}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Statement)
    }
    for kind, by_key, in_quota in product(BeginKind, (False, True), (False, True)):
        name = f"turn_begin.{kind.name.lower()}{'_by_key' if by_key else ''}{'_in_quota' if in_quota else ''}"
        statements[name] = variant(kind, by_key=by_key, in_quota=in_quota)
    return {f"{name}.sql": f"{statement.text}\n" for name, statement in statements.items()}


def main() -> None:
    """Rewrite the files, and delete those of statements that no longer exist."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.sql"):
        path.unlink()
    for name, text in golden_texts().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
