"""Statements that PostgreSQL plans once for a connection, where it plans all others each time (DB_PREPARE).

Planning a turn's two statements takes longer than running them. psycopg2 knows nothing of prepared statements, so this
speaks SQL: PREPARE at the first use on a connection, EXECUTE from then on. A name ends in a hash of its statement: it
stands for the same whoever has prepared it.

A pooler that lends its connections by the transaction forgets what was prepared, or has it from somebody else. Nothing
breaks then: what is not there is sent as it is. But it costs more than it saves, so it is off where one is told of.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg2.errors import DuplicatePreparedStatement, FeatureNotSupported, InvalidSqlStatementName
from sqlalchemy import Engine, event

_THERE = "parley.prepared"  # in a connection's own dictionary: the names that are known there


@dataclass(frozen=True, slots=True)
class Form:
    """A statement as it is prepared, and what its EXECUTE names."""

    name: str
    prepare: str
    arguments: str  # in psycopg2's style


def prepare(engine: Engine, statements: Mapping[str, str], types: Mapping[str, str]) -> None:
    """Let `engine` prepare these statements, given as name and text, where they run in AUTOCOMMIT.

    `types` are PostgreSQL's, of their parameters by name: as text, each means what it meant as a literal.
    """
    known = {text: prepared_form(name, text, types) for name, text in statements.items()}

    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        """Whether the statement has been run."""
        found = known.get(context.statement)  # without the request's id, which `statement` may have
        if found is None or not cursor.connection.autocommit:  # in a transaction, what is not there would end it
            return False
        there: set[str] = context.root_connection.info.setdefault(_THERE, set())
        if found.name not in there:
            with suppress(DuplicatePreparedStatement):
                cursor.execute(found.prepare)
            there.add(found.name)
        comment = statement[statement.index("/*") : statement.index("*/") + 2]
        try:
            cursor.execute(f"EXECUTE {comment} {found.name} {found.arguments}", parameters)
        except InvalidSqlStatementName:
            there.discard(found.name)
        except FeatureNotSupported:  # a migration has changed the type of what it returns
            cursor.execute(f"DEALLOCATE {found.name}")
            there.discard(found.name)
        else:
            return True
        return False  # nothing has been done; it is sent as it is

    event.listen(engine, "do_execute", execute)


class _Places(dict[str, str]):
    """$1, $2 and so on for the names that are asked for, in this order."""

    def __missing__(self, name: str) -> str:
        self[name] = f"${len(self) + 1}"
        return self[name]


def prepared_form(name: str, text: str, types: Mapping[str, str]) -> Form:
    """The statement `text`, in psycopg2's style; see `prepare`."""
    places = _Places()
    numbered = text % places
    declared = ", ".join(types[parameter] for parameter in places)
    unique = f"{name}_{hashlib.sha256(f'{declared} {numbered}'.encode()).hexdigest()[:8]}"
    arguments = ", ".join(f"%({parameter})s" for parameter in places)
    return Form(unique, f"PREPARE {unique} ({declared}) AS {numbered}", f"({arguments})")
