"""What conversations are found by, kept up to date."""

from uuid import UUID

from app.services import search
from app.services.search import IndexReport, SweepReport

SECONDS = 240  # for the sweep; a run may take five minutes


def index_conversations(*, conversations: list[list[str]]) -> IndexReport:
    """Write the search documents of these, each as [user id, conversation id]."""
    return search.index_conversations([(UUID(user_id), UUID(each)) for user_id, each in conversations])


def sweep() -> SweepReport:
    """Write those that are missing or behind."""
    return search.index_stale(seconds=SECONDS)
