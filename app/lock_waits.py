"""Statements that ended because they waited too long for a lock, and the objects they waited for.

PostgreSQL ends such a wait with lock_timeout, or with statement_timeout if that is nearer. In the second case only the
context of the error, which names a row, shows that the statement waited for it; without it, the wait is not recognised.
PostgreSQL cannot be asked: the statement no longer waits, and the holder may have gone. The texts are in the language
of the server, so only what is the same in all languages is read.
"""

import re
from typing import Final

from sqlalchemy.exc import DBAPIError

_LOCK_NOT_AVAILABLE, _QUERY_CANCELED = "55P03", "57014"
_ROW = re.compile(r"\([0-9]+,[0-9]+\)")  # a row's place in its table
_GROUP = re.compile(r"/\* ([a-z_]+)\.")  # of a statement's name

_CONVERSATION, _ACCOUNT, _PROJECT, _TODO, _FILE = "conversation", "account", "project", "task", "file"
_OBJECTS: Final = {
    "conversations": _CONVERSATION,
    "messages": _CONVERSATION,
    "turns": _CONVERSATION,
    "turn_events": _CONVERSATION,
    "tool_calls": _CONVERSATION,
    "conversation_archives": _CONVERSATION,
    "conversation_search": _CONVERSATION,
    "search_documents": _CONVERSATION,
    "users": _ACCOUNT,
    "sessions": _ACCOUNT,
    "api_keys": _ACCOUNT,
    "stored_bytes": _ACCOUNT,
    "projects": _PROJECT,
    "prompts": _PROJECT,
    "prompt_versions": _PROJECT,
    "tasks": _TODO,
    "files": _FILE,
    "file_contents": _FILE,
    "file_texts": _FILE,
    "file_passages": _FILE,
    "provider_files": _FILE,
}
_GROUPS: Final = {
    **_OBJECTS,
    "archives": _CONVERSATION,
    "conversation_deletion": _CONVERSATION,
    "exports": _CONVERSATION,
    "quotas": _ACCOUNT,
    "user_admin": _ACCOUNT,
    "erasure": _ACCOUNT,
}
_TABLE = re.compile(rf"\b({'|'.join(sorted(_OBJECTS, key=len, reverse=True))})\b")


def waited_for_lock(error: DBAPIError) -> bool:
    """Return whether the statement ended because it waited for a lock."""
    state = getattr(error.orig, "pgcode", None)
    return state == _LOCK_NOT_AVAILABLE or (state == _QUERY_CANCELED and _ROW.search(_context(error)) is not None)


def locked_object(error: DBAPIError) -> str | None:
    """Return what is locked: `conversation`, `account`, `project` or `task`; None if it is something else.

    It is the owner of the row that the statement waited for, or, if PostgreSQL does not say which row, the object of
    the statement. No table, row or statement is named.
    """
    if (table := _TABLE.search(_context(error))) is not None:
        return _OBJECTS[table[1]]
    group = _GROUP.search(error.statement or "")
    return _GROUPS.get(group[1]) if group else None


def _context(error: DBAPIError) -> str:
    return getattr(getattr(error.orig, "diag", None), "context", None) or ""
