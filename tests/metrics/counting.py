"""A process that counts with others, told what to do by lines on its standard input; it answers each with one line.

python -m tests.metrics.counting HOME

count N     end N turns           begin     begin a turn and do not end it       tick T    record a tick of the beat
fork N      count N in a child    render    answer with all of /metrics          seat      answer with the seat
"""

import json
import os
import sys
from pathlib import Path

from app.metrics.folder import seat, share


def main(home: Path) -> None:
    share(home)
    from app.metrics import chat, db, exposition, jobs  # only now: what is declared before counts for itself

    def count(times: int) -> None:
        for _ in range(times):
            chat.record_turn_begun()
            chat.record_turn("completed", 0.1)

    answer: object
    for line in sys.stdin:
        word, _, argument = line.strip().partition(" ")
        answer = None
        if word == "count":
            count(int(argument))
        elif word == "begin":
            chat.record_turn_begun()
        elif word == "tick":
            jobs.record_beat_tick(float(argument))
        elif word == "read":
            jobs.record_queue_lengths({argument: 1})
        elif word == "pool":
            db.record_pool_max(int(argument))
        elif word == "fork":
            child = os.fork()
            if child == 0:
                count(int(argument))
                os._exit(0)
            os.waitpid(child, 0)
        elif word == "render":
            answer = exposition.render("")[0].decode()
        elif word == "seat":
            answer = seat()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
