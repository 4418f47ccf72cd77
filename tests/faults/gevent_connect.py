"""Run as a process: connect to a database by a host's name under gevent, as a web worker does.

python -m tests.faults.gevent_connect URL CONNECT_SECONDS

`db.test` is this machine, `slow.test` is a name whose answer never comes, and any other is unknown. Prints, as JSON,
what came of it and how often another greenlet had its turn meanwhile.
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

from app.database import connect_in_time  # noqa: E402


class NameServer(Resolver):
    def getaddrinfo(self, host: Any, *arguments: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name == "slow.test":
            gevent.sleep(3600)
        if name == "db.test":
            return super().getaddrinfo("127.0.0.1", *arguments, **named)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def main(url: str, seconds: str) -> None:
    patch_psycopg()
    gevent.get_hub().resolver = NameServer()
    engine = create_engine(url)
    event.listen(engine, "do_connect", connect_in_time(float(seconds)))
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.01)
            turns += 1

    counting = gevent.spawn(count)
    try:
        with engine.connect() as connection:
            came = str(connection.execute(text("SELECT 'connected'")).scalar_one())
    except OperationalError as error:
        came = str(error.orig)
    counting.kill()
    sys.stdout.write(json.dumps({"came": came, "turns": turns}))


if __name__ == "__main__":
    main(*sys.argv[1:])
