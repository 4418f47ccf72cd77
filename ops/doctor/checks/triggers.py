"""Triggers that do not run: those of Parley's tables, and event triggers of the database."""

from collections.abc import Iterator

from app.repositories.statement import Statement
from app.services.health import expected_revision
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.declared_triggers import DeclaredTrigger, declared_triggers
from ops.doctor.revision import CURRENT, revision_of
from ops.errors import UnknownState
from ops.levels import Level

# `state` is null for a missing trigger. One that calls another function does not count.
DECLARED = Statement(
    "ops.declared_triggers",
    """
SELECT wanted.name, wanted.function, c.relname AS table,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_table, to_regproc(wanted.function) IS NOT NULL
       AND to_regproc('add_stored_bytes') IS NOT NULL AS has_functions,
       (SELECT t.tgenabled FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = wanted.name
                                               AND t.tgfoid = to_regproc(wanted.function)) AS state
  FROM unnest(%(tables)s::text[], %(names)s::text[], %(functions)s::text[]) AS wanted("table", name, function)
  JOIN pg_class c ON c.oid = to_regclass(quote_ident(wanted."table")) JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY c.relname, wanted.name""",
)
EVENT_TRIGGERS = Statement(
    "ops.event_triggers",
    """
SELECT quote_ident(evtname) AS name, evtevent AS event, evtfoid::regproc::text AS function,
       evtenabled NOT IN ('O', 'A') AS is_disabled, current_setting('event_triggers', true) = 'off' AS are_off
  FROM pg_event_trigger ORDER BY evtname""",
)
_RUNNING = ("O", "A")  # on writes of clients; a trigger for replicas alone does not run


@check("migrations.triggers", "Do the triggers of Parley's tables run?", severity=Level.WARNING)
def triggers(context: CheckContext) -> Iterator[Finding]:
    """Find triggers of Parley that are missing or disabled, and disabled event triggers.

    Raises `UnknownState` for the former if the database is at another revision.
    """
    yield from _event_triggers(context)
    if revision_of(context) != expected_revision():
        raise UnknownState("The database is not at the revision of this code.", remedy=CURRENT)
    declared = {(each.table, each.name): each for each in declared_triggers()}
    for row in DECLARED.all(
        context.connection,
        {
            "tables": [each.table for each in declared.values()],
            "names": [each.name for each in declared.values()],
            "functions": [each.function for each in declared.values()],
        },
    ):
        if row.state not in _RUNNING:
            yield _not_counted(declared[row.table, row.name], row.sql_table, row.state, row.has_functions)


def _not_counted(declared: DeclaredTrigger, table: str, state: str | None, has_functions: bool) -> Finding:
    recount = "Then correct the count of stored bytes: flask ops jobs run storage.recount"
    message = f"is {'missing' if state is None else 'disabled'}: {declared.effect}."
    if not has_functions:
        return Finding(
            level=Level.WARNING,
            message=f"The function {declared.function} or add_stored_bytes, or the trigger {declared.name} of {table},"
            f" {message}",
            object=f"{table} {declared.name}",
            evidence={"table": table, "trigger": declared.name, "function": declared.function},
            remedy="Who dropped it? Create the function as the migrations do, and run this check again",
        )
    if state is None:
        sql = f"DROP TRIGGER IF EXISTS {declared.name} ON {table};\n{declared.create}"
    else:
        sql = f"ALTER TABLE {table} ENABLE TRIGGER {declared.name};"
    return Finding(
        level=Level.WARNING,
        message=f"The trigger {declared.name} of {table} {message}",
        object=f"{table} {declared.name}",
        evidence={"table": table, "trigger": declared.name, "state": state},
        remedy=f"{'Create' if state is None else 'Enable'} it. {recount}",
        sql=sql,
    )


def _event_triggers(context: CheckContext) -> Iterator[Finding]:
    rows = EVENT_TRIGGERS.all(context.connection, {})
    if rows and rows[0].are_off:
        yield Finding(
            level=Level.WARNING,
            message="event_triggers is off: no event trigger of this database runs, such as one that records changes of"
            " the schema.",
            object="event_triggers",
            evidence={"event_triggers": [row.name for row in rows]},
            remedy="Who switched them off, and why? SELECT * FROM pg_db_role_setting shows where; reset it there",
        )
    for row in rows:
        if row.is_disabled:
            yield Finding(
                level=Level.WARNING,
                message=f"The event trigger {row.name} is disabled. It is not one of Parley, which has none.",
                object=row.name,
                evidence={"event": row.event, "function": row.function},
                remedy="Who disabled it, and is it still needed? If so, enable it; if not, drop it",
                sql=f"ALTER EVENT TRIGGER {row.name} ENABLE;",
            )
