import hashlib
from typing import Any

import marshmallow as ma
import orjson

from app.api.pagination import IDENTIFIER, FilteredCursor, PageQuery, Pages, page_of
from app.tools.todo_schemas import TodoFilter, TodoSchema


def pages_of(completed: bool | None, q: str | None) -> Pages:
    """Return the pages of a filtered list; they refuse cursors of other filters."""
    filters = hashlib.sha256(orjson.dumps([completed, q])).hexdigest()
    return Pages(f"tasks.1.{filters[:16]}", lambda item: (item.id,), IDENTIFIER)


class TodoQuery(PageQuery, TodoFilter):
    cursor = FilteredCursor()

    @ma.post_load
    def _open_cursor(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        pages = pages_of(data["completed"], data["q"])
        cursor = data.pop("cursor")
        return {**data, "pages": pages, "after": None if cursor is None else pages.decode(cursor)[0]}


TodoPage = page_of(TodoSchema)
