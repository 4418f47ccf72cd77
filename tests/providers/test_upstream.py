"""The fake upstream itself: as a process, and its scripts as text."""

import json
import subprocess
import sys
import urllib.request

import pytest

from tests.fakes import scripts


@pytest.mark.process
def test_upstream_runs_as_a_process() -> None:
    command = [sys.executable, "-m", "tests.fakes.upstream", "--script", "words(count=2)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            body = json.dumps({"messages": []}).encode()
            with urllib.request.urlopen(f"{url}/chat/completions", body, timeout=10) as answer:
                assert b"word1" in answer.read()
            with urllib.request.urlopen(f"{url.removesuffix('/v1')}/seen", timeout=10) as answer:
                seen = json.load(answer)
            assert seen["requests"][0]["body"] == {"messages": []}
            assert seen["requests"][0]["ended"] == "complete"
        finally:
            process.terminate()


@pytest.mark.parametrize("text", ["nonsense(1)", "words", "__import__('os')", "words(count=print())"])
def test_text_that_is_no_script_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"script|malformed"):
        scripts.parse(text)
