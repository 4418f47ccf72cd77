"""Jobs that keep what conversations are found by up to date."""

from uuid import UUID

from app.services import search
from app.services.search import IndexReport, SweepReport
from ops import catalogue
from tasks.base import job

SECONDS = 240  # for the sweep; a run may take five minutes


@job(catalogue.INDEX_CONVERSATIONS)
def index_conversations(*, conversations: list[list[str]]) -> IndexReport:
    return search.index_conversations([(UUID(user_id), UUID(each)) for user_id, each in conversations])


@job(catalogue.SWEEP_SEARCH)
def sweep() -> SweepReport:
    return search.index_stale(seconds=SECONDS)
