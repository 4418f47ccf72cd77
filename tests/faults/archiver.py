"""An endless archival of conversations that have been idle for one second: `python -m tests.faults.archiver`.

Repeats the daily run with its own cutoff. A run that fails, for example because the database is down, is reported on
standard error; the next one begins a moment later.
"""

import sys
import threading

from sqlalchemy.exc import DBAPIError

from app.database import autocommit
from app.errors import ParleyError
from app.ids import new_id
from app.repositories.statement import Statement
from ops.archive.run import run
from ops.server.composition import create_core_app, load_process_settings

PAUSE = 0.3  # seconds between two runs

# A stopped run without progress, which the next run resumes with this cutoff.
INSERT_STOPPED_RUN = Statement(
    "archive_runs.insert_stopped",
    """INSERT INTO archive_runs (id, state, cutoff, finished_at)
       VALUES (%(id)s, 'stopped', now() - interval '1 second', now()) RETURNING id""",
)


def main() -> None:
    """Archive until the process is killed."""
    flask_app = create_core_app(load_process_settings())
    with flask_app.app_context():
        while True:
            try:
                with autocommit() as connection:
                    row = INSERT_STOPPED_RUN.one(connection, {"id": new_id()})
                assert row is not None
                run(resume=row.id)
            except (DBAPIError, ParleyError) as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            threading.Event().wait(PAUSE)


if __name__ == "__main__":
    main()
