"""The CHECK constraints that the models declare."""

from functools import cache

from sqlalchemy import CheckConstraint
from sqlalchemy.dialects import postgresql

import app.models  # noqa: F401  # so that all tables are known
from app.models import Base

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap


@cache
def declared_conditions() -> dict[tuple[str, str], str]:
    """Return the conditions of the models' CHECK constraints by table and name."""
    conditions = {}
    for table in Base.metadata.sorted_tables:
        for constraint in table.constraints:
            if isinstance(constraint, CheckConstraint):
                name = _DIALECT.identifier_preparer.format_constraint(constraint)
                compiled = constraint.sqltext.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True})
                conditions[table.name, str(name)] = str(compiled)
    return conditions
