"""Into its bundle with one conversation, as a run of the archival would put it there."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from app.models.columns import new_id
from app.repositories import archive_runs as runs
from app.services.search import index_conversations
from ops.archive.batch import archive
from ops.archive.candidates import Batch
from ops.care.batches import autocommit


def put_away(user_id: UUID, conversation_id: UUID | str) -> UUID:
    """Archive it, whenever it was used last; nothing happens where it is in a bundle already. Returns the run's id."""
    key = (user_id, UUID(str(conversation_id)))
    index_conversations([key])
    with autocommit() as connection:
        now: Any = runs.NOW.one(connection, {"days": 0})
        run: Any = runs.BEGIN.one(connection, {"run_id": new_id(), "cutoff": now.now + timedelta(days=1)})
        archive(connection, run.id, Batch([(*key, 0)], frozenset(), key, 1), run.cutoff)
        runs.END.one(connection, {"run_id": run.id, "state": "completed", "reason": None})
        return UUID(str(run.id))
