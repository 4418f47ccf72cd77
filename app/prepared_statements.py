"""Prepared statements for psycopg2 (DB_PREPARE): PostgreSQL plans them once per connection.

Planning a turn's two statements takes longer than running them. psycopg2 has no support for prepared statements, so
this sends SQL: PREPARE at the first use on a connection, then EXECUTE. Each name ends in a hash of its statement, so
equal names have equal meanings on any connection.

A pooler in transaction mode loses prepared statements, or lends those of one client to others. So nothing is prepared
on a connection through a pooler.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg2.errors import DuplicatePreparedStatement, FeatureNotSupported, InvalidSqlStatementName
from sqlalchemy import Engine, event

_PREPARED = "parley.prepared"  # key in `Connection.info`: the set of names that are prepared on the connection


@dataclass(frozen=True, slots=True)
class PreparedForm:
    """The PREPARE of a statement, and the arguments of its EXECUTE."""

    name: str
    prepare: str
    arguments: str  # in psycopg2's style


def prepare(engine: Engine, statements: Mapping[str, str], types: Mapping[str, str]) -> None:
    """Prepare `statements`, by their names, on each connection of `engine` that runs them in AUTOCOMMIT.

    `types` are PostgreSQL's types of the parameters, by name.
    """
    forms = {text: prepared_form(name, text, types) for name, text in statements.items()}

    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        """Run the statement as prepared; return False if SQLAlchemy must run it."""
        form = forms.get(context.statement)  # `statement` may have a request id in its comment
        # In a transaction, EXECUTE of a statement that is not prepared would abort the transaction.
        if form is None or not cursor.connection.autocommit or cursor.connection.is_pooled:
            return False
        prepared: set[str] = context.root_connection.info.setdefault(_PREPARED, set())
        if form.name not in prepared:
            with suppress(DuplicatePreparedStatement):
                cursor.execute(form.prepare)
            prepared.add(form.name)
        comment = statement[statement.index("/*") : statement.index("*/") + 2]
        try:
            cursor.execute(f"EXECUTE {comment} {form.name} {form.arguments}", parameters)
        except InvalidSqlStatementName:
            prepared.discard(form.name)
        except FeatureNotSupported:  # a migration changed the types of the result
            cursor.execute(f"DEALLOCATE {form.name}")
            prepared.discard(form.name)
        else:
            return True
        return False  # PostgreSQL rejected EXECUTE before it ran anything

    event.listen(engine, "do_execute", execute)


class _Placeholders(dict[str, str]):
    """Numbers parameter names $1, $2, ... in the order of their first use."""

    def __missing__(self, name: str) -> str:
        self[name] = f"${len(self) + 1}"
        return self[name]


def prepared_form(name: str, text: str, types: Mapping[str, str]) -> PreparedForm:
    """Return the prepared form of the statement `text`, which has parameters in psycopg2's style."""
    placeholders = _Placeholders()
    numbered = text % placeholders
    declared = ", ".join(types[parameter] for parameter in placeholders)
    unique = f"{name}_{hashlib.sha256(f'{declared} {numbered}'.encode()).hexdigest()[:8]}"
    arguments = ", ".join(f"%({parameter})s" for parameter in placeholders)
    return PreparedForm(unique, f"PREPARE {unique} ({declared}) AS {numbered}", f"({arguments})")
