"""Work on long texts of one user lets the requests of others run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
SCRIPT = """
from gevent import monkey
monkey.patch_all()
import json, time, gevent
from app.api.json_values import levels
from app.api.schemas.conversations import refuse_extreme_numbers
from app.api.schemas.exports import ExportSchema
from app.services import markdown, search_hits

message = {"role": "assistant", "content": "x"}
work = {
    "import": lambda: ExportSchema().load({"version": 1, "conversation": {}, "messages": [message] * 20_000}),
    "nested": lambda: list(levels([[[]] * 200_000])),
    "numbers": lambda: refuse_extreme_numbers([[1, 2]] * 200_000),
    "lines": lambda: markdown.may_be_unclosed("a\\n" * 500_000),
    "code": lambda: markdown.must_be_fenced("some `code` here\\n" * 50_000),
    "quoted": lambda: markdown.quoted("\\r" * 500_000),
    "search": lambda: [list(search_hits._places("aB1_" * 5000, {"x"}, ())) for _ in range(5)],
}
ticks = 0

def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.0005)

gevent.spawn(tick)
gevent.sleep(0)
seen = {}
for name, function in work.items():
    before, cpu = ticks, time.process_time()
    function()
    seen[name] = [ticks - before, time.process_time() - cpu]
print(json.dumps(seen))
"""


def test_long_loops_yield_to_other_greenlets() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    # A loop that does not yield ticks once at most.
    assert {name: ticks for name, (ticks, _) in seen.items() if ticks < 5} == {}, seen
