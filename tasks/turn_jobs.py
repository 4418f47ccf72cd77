"""Jobs around turns."""

from app.services.container import services
from ops import catalogue
from ops.care.turns import StaleTurnsClosed, close_stale
from tasks.base import job

# Beyond what the next caller waits for: whoever is there comes first, and the clock closes what nobody asks about.
MARGIN_SECONDS = 15


@job(catalogue.CLOSE_STALE_TURNS)
def close_stale_turns() -> StaleTurnsClosed:
    return close_stale(stale_seconds=services().settings.chat.stale_seconds + MARGIN_SECONDS, seconds=40)
