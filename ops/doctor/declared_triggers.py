"""The triggers of Parley, as the migrations create them: they count stored bytes, and remove the files' objects."""

from collections.abc import Iterator
from dataclasses import dataclass

PREFIX = "count_stored_"

# The bytes of one row. A new table of users' texts is added here and in its migration; a test compares both.
ROW_SIZES = {
    "conversations": "(octet_length({0}metadata::text) - 2)",
    "conversation_archives": "octet_length({0}bundle)",
}
_CHANGED = {"INSERT": "NEW TABLE AS changed_rows", "DELETE": "OLD TABLE AS changed_rows"}
_NEW, _OLD = "NEW TABLE AS new_rows", "OLD TABLE AS old_rows"
_UPDATED = {"INSERT": _NEW, "DELETE": _OLD, "UPDATE": f"{_NEW} {_OLD}"}
# Tables of which one statement changes many rows: their triggers run once for it, with these rows.
BY_STATEMENT = {
    "messages": _CHANGED,
    "tasks": _UPDATED,
    "projects": _UPDATED,
    "prompts": _UPDATED,
    "prompt_versions": _CHANGED,
    "file_contents": _CHANGED,
    "file_passages": _CHANGED,
}


@dataclass(frozen=True, slots=True)
class DeclaredTrigger:
    """A trigger of a table, the statement that creates it, and what happens while it does not run."""

    table: str
    name: str
    function: str
    create: str
    effect: str = "the bytes that users store are counted wrong"


def declared_triggers() -> Iterator[DeclaredTrigger]:
    """Yield all triggers."""
    for table, events in BY_STATEMENT.items():
        for event, rows in events.items():
            yield DeclaredTrigger(
                table,
                f"{PREFIX}{event.lower()}",
                f"{PREFIX}{table}",
                f"CREATE TRIGGER {PREFIX}{event.lower()} AFTER {event} ON {table} REFERENCING {rows}"
                f" FOR EACH STATEMENT EXECUTE FUNCTION {PREFIX}{table}();",
            )
    for table, size in ROW_SIZES.items():
        new, old = size.format("NEW."), size.format("OLD.")
        for event, changed in {"INSERT": new, "DELETE": old, "UPDATE": f"{new} - ({old})"}.items():
            yield DeclaredTrigger(
                table,
                f"{PREFIX}{event.lower()}",
                f"{PREFIX}{table}",
                f"CREATE TRIGGER {PREFIX}{event.lower()} AFTER {event} ON {table} FOR EACH ROW"
                f" WHEN ({changed} <> 0) EXECUTE FUNCTION {PREFIX}{table}();",
            )
    yield DeclaredTrigger(
        "file_contents",
        "remove_objects",
        "remove_file_objects",
        "CREATE TRIGGER remove_objects AFTER DELETE ON file_contents REFERENCING OLD TABLE AS changed_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION remove_file_objects();",
        "the contents of deleted files stay in the store",
    )
    yield DeclaredTrigger(
        "provider_files",
        "remove_at_provider",
        "remove_provider_files",
        "CREATE TRIGGER remove_at_provider AFTER DELETE ON provider_files REFERENCING OLD TABLE AS changed_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION remove_provider_files();",
        "the copies of deleted files stay at their providers",
    )
