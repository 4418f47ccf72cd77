"""The web worker: gunicorn's gevent worker, which also waits for the turns that nobody is reading any more, and says
what it refuses as the application does.

gunicorn waits for requests only. A turn whose reader has left is no request, so without this it died with the worker:
on SIGTERM, and each time a worker is replaced after `max_requests`.
"""

from typing import TYPE_CHECKING, Any

import gevent
from gunicorn.workers.ggevent import GeventWorker  # type: ignore[import-untyped]

if TYPE_CHECKING:  # the arbiter imports this file; the application comes later, once the worker has patched the sockets
    from app.services.turns import TurnEngine

# Seconds before the arbiter's SIGKILL at which what still runs is closed as `interrupted`, with what there is of it.
LAST_CALL = 5.0
_LOOK_AGAIN = 0.2


class DrainingGeventWorker(GeventWorker):  # type: ignore[misc]  # gunicorn comes without types
    """Stops in three steps: no new requests; the requests and the turns under way end; the rest is interrupted."""

    def run(self) -> None:
        turns: TurnEngine = self.wsgi.extensions["parley"].turns
        watchdog = gevent.spawn(self._interrupt_in_time, turns)
        super().run()  # returns once the requests under way have ended
        while turns.running and not watchdog.dead:
            self.notify()  # the arbiter takes a silent worker for a hung one
            gevent.sleep(_LOOK_AGAIN)
        with gevent.Timeout(LAST_CALL, False):  # type: ignore[arg-type]  # False: just go on; the stubs do not know it
            while turns.running:
                self.notify()
                gevent.sleep(_LOOK_AGAIN)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """What never reached the application, or failed on its way back, is answered as a problem and not as a page."""
        from ops import refusals

        refusals.tell(client, req, exc)

    def _interrupt_in_time(self, turns: "TurnEngine") -> None:
        while self.alive:
            gevent.sleep(_LOOK_AGAIN)
        gevent.sleep(max(0.0, self.cfg.graceful_timeout - LAST_CALL))
        if turns.running:
            self.log.warning("interrupting %s turns that did not end in time", turns.running)
            turns.interrupt_all()
