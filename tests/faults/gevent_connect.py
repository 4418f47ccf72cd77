"""A process that connects to a database by a host name under gevent, as a web worker does.

python -m tests.faults.gevent_connect URL CONNECT_SECONDS

`db.test` is this machine, the lookup of `slow.test` never returns, and any other name is unknown. Prints as JSON the
`outcome`, which is "connected" or the error, and `switches`: how often another greenlet ran during the attempt.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402  # everything else is imported after the patch, as gunicorn's worker does
import socket  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent.resolver.thread import Resolver  # noqa: E402
from psycogreen.gevent import patch_psycopg  # noqa: E402
from sqlalchemy import create_engine, event, text  # noqa: E402
from sqlalchemy.exc import OperationalError  # noqa: E402

from app.instrumented_engines import connect_timeout_listener  # noqa: E402


class FakeResolver(Resolver):
    """A resolver with fixed answers."""

    def getaddrinfo(self, host: Any, *arguments: Any, **options: Any) -> Any:
        """Resolve `db.test`, block for `slow.test`, and fail for any other name."""
        name = host.decode() if isinstance(host, bytes) else host
        if name == "slow.test":
            gevent.sleep(3600)
        if name == "db.test":
            return super().getaddrinfo("127.0.0.1", *arguments, **options)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def main(url: str, seconds: str) -> None:
    """Connect to `url` within `seconds` and print the outcome."""
    patch_psycopg()
    gevent.get_hub().resolver = FakeResolver()  # type: ignore[assignment]  # not a subclass in gevent's types
    engine = create_engine(url)
    event.listen(engine, "do_connect", connect_timeout_listener(float(seconds)))
    switches = 0

    def count_switches() -> None:
        nonlocal switches
        while True:
            gevent.sleep(0.01)
            switches += 1

    counter = gevent.spawn(count_switches)
    try:
        with engine.connect() as connection:
            outcome = str(connection.execute(text("SELECT 'connected'")).scalar_one())
    except OperationalError as error:
        outcome = str(error.orig)
    counter.kill()
    sys.stdout.write(json.dumps({"outcome": outcome, "switches": switches}))


if __name__ == "__main__":
    main(*sys.argv[1:])
