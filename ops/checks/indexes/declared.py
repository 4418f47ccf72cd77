"""The indexes that Parley's models declare, as SQLAlchemy writes them out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Table, UniqueConstraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from app.extensions import Base
from ops.checks.indexes.reading import Index

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap
_CAST = re.compile(
    r"::\"?[a-z_][a-z0-9_]*\"?(?: varying| precision| with(?:out)? time zone)?(?:\(\d+(?:,\d+)?\))?(?:\[\])*"
)
_NOISE = re.compile(r"[\s()\"]")
_TEXT = re.compile(r"('(?:[^']|'')*')")  # a text in SQL, whose letters are what they are


@dataclass(frozen=True, slots=True)
class Declared:
    """An index of a model. `constraint` is PRIMARY KEY or UNIQUE for one that belongs to such a constraint."""

    table: str
    name: str
    definition: str
    constraint: str | None

    @property
    def unique(self) -> bool:
        return self.definition.startswith("CREATE UNIQUE ")

    @property
    def expressions(self) -> tuple[bool, ...]:
        """Of each column that it is searched by, whether it is an expression and no plain column."""
        _, _, what = self.definition.partition(f" ON {self.table} ")
        depth, found = 0, [False]
        for sign in what[what.index("(") + 1 :]:
            depth += {"(": 1, ")": -1}.get(sign, 0)
            if depth < 0:
                break
            if depth == 0 and sign == ",":
                found.append(False)
            found[-1] |= depth > 0
        return tuple(found)

    def is_like(self, index: Index) -> bool:
        """Whether `index` is what is declared, its name and constraint left aside."""
        expressions = tuple(attribute == 0 for attribute in index.attributes[: index.key_count])
        return plain(index.definition) == plain(self.definition) and expressions == self.expressions

    def statement(self, name: str, sql_table: str) -> str:
        """What builds it under `name` beside what is written meanwhile; `sql_table` is its table, with the schema."""
        head, _, rest = self.definition.partition(f" INDEX {self.name} ON ")
        return f"{head} INDEX CONCURRENTLY {name} ON {sql_table} {rest.partition(' ')[2]}"


@cache
def declared() -> dict[str, Declared]:
    """By name, all that the models declare."""
    return {each.name: each for table in Base.metadata.sorted_tables for each in _of(table)}


def is_declared(index: Index) -> bool:
    """Whether the models declare an index with this name on this table."""
    found = declared().get(index.name)
    return found is not None and index.is_ours and found.table == index.table


def plain(definition: str) -> str:
    """A definition without its name, and without what PostgreSQL and SQLAlchemy write differently and what means
    nothing: spaces, quotes, parentheses, casts, the schema."""
    head, _, rest = definition.replace(" ONLY ", " ").partition(" ON ")
    target, _, what = rest.partition("(")
    table, _, method = target.partition(" USING ")
    if method == "":  # SQLAlchemy puts it there too, but only where it is not a B-tree
        method = "btree"
    unique = "unique" if head.startswith("CREATE UNIQUE ") else ""
    where = table.strip().rpartition(".")[2]
    parts = enumerate(_TEXT.split(what))
    written = "".join(part if at % 2 else _NOISE.sub("", _CAST.sub("", part.lower())) for at, part in parts)
    return f"{unique}|{_NOISE.sub('', where)}|{method.strip()}|{written}"


def _of(table: Table) -> Iterator[Declared]:
    names = _DIALECT.identifier_preparer
    for constraint in table.constraints:
        if constraint is table.primary_key or isinstance(constraint, UniqueConstraint):
            name = names.format_constraint(constraint)
            columns = ", ".join(names.format_column(column) for column in constraint.columns)
            definition = f"CREATE UNIQUE INDEX {name} ON {names.format_table(table)} ({columns})"
            kind = "PRIMARY KEY" if constraint is table.primary_key else "UNIQUE"
            yield Declared(table.name, str(name), definition, kind)
    for index in table.indexes:
        yield Declared(table.name, str(index.name), str(CreateIndex(index).compile(dialect=_DIALECT)), None)
