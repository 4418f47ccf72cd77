"""Native threads of a process under gevent."""

import subprocess
import sys

SECONDS = 60

# All threads wait for a pipe that stays empty, as they would for a disk that hangs.
_SCRIPT = """
from gevent import monkey; monkey.patch_all()
import os, socket
import gevent
from app.outbound.native_threads import _THREADS, in_native_thread
empty, other_end = os.pipe()
blocked = [gevent.spawn(in_native_thread, os.read, empty, 1) for _ in range(_THREADS + 5)]
gevent.idle()
print(socket.getaddrinfo("localhost", 80)[0][4][1])
os.write(other_end, b"x" * len(blocked))
gevent.joinall(blocked)
if os.fork() == 0:
    print(in_native_thread(os.getpid) == os.getpid())
else:
    os.wait()
"""


def test_threads_that_wait_for_a_disk_stop_neither_host_names_nor_forked_processes() -> None:
    run = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert run.stdout.split() == ["80", "True"], run.stderr
