"""An archival that never stops, of conversations that have been idle for a second: `python -m tests.faults.archiver`.

It is the daily run, time and again, with a cutoff of its own. What it meets, such as a database that goes away, ends a
run; the next begins a moment later.
"""

import sys
import threading

from sqlalchemy.exc import DBAPIError

from app.errors import ParleyError
from app.models.columns import new_id
from app.repositories.statement import Statement
from ops.archive.run import run
from ops.care.batches import autocommit
from ops.composition import application_or_exit, settings_or_exit

PAUSE = 0.3  # seconds between two runs

# A run that was stopped before it saw anything.
STOPPED = Statement(
    "archive_runs.stopped",
    """INSERT INTO archive_runs (id, state, cutoff, finished_at)
       VALUES (%(id)s, 'stopped', now() - interval '1 second', now()) RETURNING id""",
)


def main() -> None:
    flask_app = application_or_exit(settings_or_exit())
    with flask_app.app_context():
        while True:
            try:
                with autocommit() as connection:
                    row = STOPPED.one(connection, {"id": new_id()})
                assert row is not None
                run(resume=row.id)
            except (DBAPIError, ParleyError) as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            threading.Event().wait(PAUSE)


if __name__ == "__main__":
    main()
