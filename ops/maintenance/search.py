"""Jobs that update the search documents of conversations and tasks."""

from dataclasses import replace
from uuid import UUID

from app.services import search_index, todos
from app.services.search_index import IndexReport, SweepReport

# Of the sweep; the job's time limit is five minutes.
SECONDS, TODO_SECONDS = 210, 30


def index_conversations(*, conversations: list[list[str]]) -> IndexReport:
    """Write the search documents of the conversations, each given as [user id, conversation id]."""
    return search_index.index_conversations([(UUID(user_id), UUID(each)) for user_id, each in conversations])


def sweep() -> SweepReport:
    """Write search documents that are missing or out of date, and the terms of tasks that older word rules read."""
    rewritten = todos.index_stale(seconds=TODO_SECONDS)
    return replace(search_index.index_stale(seconds=SECONDS), todos=rewritten)
