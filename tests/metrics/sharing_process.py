"""A process that shares its metrics. It reads commands from standard input and answers each with one line of JSON.

python -m tests.metrics.sharing_process HOME

count N     end N turns                  begin     begin a turn and do not end it
tick T      record a tick of beat        read Q    record the length of queue Q
pool N      record a pool of N           fork N    count N in a child process
routes N    record a request to each of N routes
render      answer with /metrics         slot      answer with the process slot
"""

import json
import os
import sys
from pathlib import Path

from app.metrics import chat, db, exposition, http, jobs
from app.metrics.multiprocess import process_slot, share
from app.metrics.registry import create_metrics


def main(home: Path) -> None:
    share(home)
    create_metrics()

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
        elif word == "routes":
            for number in range(int(argument)):
                http.record_request("GET", f"/route/{number}", 200, 0.1)
        elif word == "fork":
            child = os.fork()
            if child == 0:
                count(int(argument))
                os._exit(0)
            os.waitpid(child, 0)
        elif word == "render":
            answer = exposition.render("")[0].decode()
        elif word == "slot":
            answer = process_slot()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
