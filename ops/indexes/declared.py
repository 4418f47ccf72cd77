"""The indexes that Parley's models declare, with definitions as SQLAlchemy renders them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Table, UniqueConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from app.models import Base
from ops.indexes.snapshot import Index

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap
_CAST = re.compile(
    r"::\"?[a-z_][a-z0-9_]*\"?(?: varying| precision| with(?:out)? time zone)?(?:\(\d+(?:,\d+)?\))?(?:\[\])*"
)
_NOISE = re.compile(r"[\s()\"]")
_LITERAL = re.compile(r"('(?:[^']|'')*')")  # a string literal, which must not be normalised
_VALUE = r"(?:'(?:[^']|'')*'|-?\d+)"
_IN_LIST = re.compile(rf"\bIN \(({_VALUE}(?:, ?{_VALUE})*)\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DeclaredIndex:
    """An index of a model. `constraint` is PRIMARY KEY or UNIQUE where it belongs to such a constraint."""

    table: str
    name: str
    definition: str
    constraint: str | None

    @property
    def unique(self) -> bool:
        """Whether it is unique."""
        return self.definition.startswith("CREATE UNIQUE ")

    @property
    def expressions(self) -> tuple[bool, ...]:
        """For each key, whether it is an expression, as opposed to a column."""
        _, _, target = self.definition.partition(f" ON {self.table} ")
        depth, flags = 0, [False]
        for character in target[target.index("(") + 1 :]:
            depth += {"(": 1, ")": -1}.get(character, 0)
            if depth < 0:
                break
            if depth == 0 and character == ",":
                flags.append(False)
            flags[-1] |= depth > 0
        return tuple(flags)

    def is_like(self, index: Index) -> bool:
        """Return whether `index` has this definition, apart from the name and the constraint."""
        expressions = tuple(attribute == 0 for attribute in index.attributes[: index.key_count])
        return normalized(index.definition) == normalized(self.definition) and expressions == self.expressions

    def statement(self, name: str, sql_table: str) -> str:
        """Return the statement that builds it concurrently as `name` on `sql_table`, the table with its schema."""
        head, _, rest = self.definition.partition(f" INDEX {self.name} ON ")
        return f"{head} INDEX CONCURRENTLY {name} ON {sql_table} {rest.partition(' ')[2]}"


@cache
def declared_indexes() -> dict[str, DeclaredIndex]:
    """Return all declared indexes by name."""
    return {index.name: index for table in Base.metadata.sorted_tables for index in _indexes_of(table)}


def is_declared(index: Index) -> bool:
    """Return whether the models declare an index with this name on this table."""
    declared = declared_indexes().get(index.name)
    return declared is not None and index.is_parley_table and declared.table == index.table


def normalized(definition: str) -> str:
    """Return a definition in a form in which those of PostgreSQL and SQLAlchemy can be compared.

    Without the name, the schema, spaces, quotes, parentheses and casts.
    """
    head, _, rest = definition.replace(" ONLY ", " ").partition(" ON ")
    target, _, keys = rest.partition("(")
    table, _, method = target.partition(" USING ")
    if method == "":  # SQLAlchemy renders USING except for B-trees
        method = "btree"
    unique = "unique" if head.startswith("CREATE UNIQUE ") else ""
    plain_table = _NOISE.sub("", table.strip().rpartition(".")[2])
    keys = _IN_LIST.sub(r"= ANY (ARRAY[\1])", keys)  # as PostgreSQL stores it
    parts = enumerate(_LITERAL.split(keys))  # every second part is a literal
    rest = "".join(part if at % 2 else _NOISE.sub("", _CAST.sub("", part.lower())) for at, part in parts)
    return f"{unique}|{plain_table}|{method.strip()}|{rest}"


def _indexes_of(table: Table) -> Iterator[DeclaredIndex]:
    names = _DIALECT.identifier_preparer
    for constraint in table.constraints:
        if constraint is table.primary_key or isinstance(constraint, UniqueConstraint):
            name = names.format_constraint(constraint)
            columns = ", ".join(names.format_column(column) for column in constraint.columns)
            definition = f"CREATE UNIQUE INDEX {name} ON {names.format_table(table)} ({columns})"
            kind = "PRIMARY KEY" if constraint is table.primary_key else "UNIQUE"
            yield DeclaredIndex(table.name, str(name), definition, kind)
    for index in table.indexes:
        yield DeclaredIndex(table.name, str(index.name), str(CreateIndex(index).compile(dialect=_DIALECT)), None)
