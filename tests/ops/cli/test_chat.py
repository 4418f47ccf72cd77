"""`flask chat` with a server: in a pipe and on a terminal."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask_jwt_extended import create_access_token
from sqlalchemy import Engine
from werkzeug.serving import BaseWSGIServer, make_server

from app.ids import new_id
from ops.cli.chat import chat
from ops.cli.chat_client import ClientError, ParleyClient
from tests.api.conftest import _plain_script, chat_app, make_chat_app, rows, upstream
from tests.factories import PASSWORD, LoggedInUser, make_conversation
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.faults.proxy import Proxy
from tests.ops.conftest import PROJECT, SECONDS, own_environment
from tests.processes import reaped
from tests.waiting import wait_until

__all__ = ["_plain_script", "chat_app", "make_chat_app", "rows", "upstream"]

Rows = Callable[..., list[Any]]
Piped = Callable[..., Result]


@pytest.fixture(scope="module")
def server(chat_app: Flask) -> Iterator[BaseWSGIServer]:
    """Serve the application on its own port."""
    server = make_server("127.0.0.1", 0, chat_app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(SECONDS)
    server.server_close()


@pytest.fixture
def url(server: BaseWSGIServer, upstream: Upstream) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def piped(url: str, user: LoggedInUser) -> Piped:
    """Return a function that runs the command as `user` with the given input and arguments."""

    def run(message: str | bytes, *arguments: str, token: str = user.access_token, to: str = url) -> Result:
        return CliRunner().invoke(chat, ["--url", to, *arguments], input=message, env={"PARLEY_TOKEN": token})

    return run


class Gate:
    """A script that sends "begin ", waits until `opened` is set, and sends "end"."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"role": "assistant", "content": "begin "}))
        while not self.opened.is_set():
            await exchange.pause(0.02)
        await exchange.event(scripts.chunk({"content": "end"}))
        await exchange.event(scripts.chunk({}, "stop"))
        await exchange.send(scripts.DONE)
        await exchange.end()


def test_piped_message_prints_its_answer(piped: Piped, upstream: Upstream, user: LoggedInUser, rows: Rows) -> None:
    upstream.script = scripts.echo()
    result = piped("What is new?\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "1 messages; last: What is new?\n", "")
    [row] = rows("SELECT title, message_count FROM conversations WHERE user_id = :u", u=user.id)
    assert tuple(row) == ("What is new?", 2)


def test_conversation_is_continued(piped: Piped, upstream: Upstream, user: LoggedInUser, rows: Rows) -> None:
    upstream.script = scripts.echo()
    assert piped("one").exit_code == 0
    [(conversation,)] = rows("SELECT id FROM conversations WHERE user_id = :u", u=user.id)
    for arguments in (["--conversation", str(conversation)], ["--last"]):
        result = piped("two", *arguments)
        assert result.exit_code == 0
        assert result.stdout.endswith("last: two\n")
        assert "Continuing “one”" in result.stderr
    assert piped("three", "--new").stdout.startswith("1 messages;")
    assert len(rows("SELECT FROM conversations WHERE user_id = :u", u=user.id)) == 2


def test_last_without_conversations_starts_a_new_one(piped: Piped) -> None:
    result = piped("hello", "--last")
    assert result.exit_code == 0
    assert "no conversation yet" in result.stderr


def test_piped_answer_is_unchanged(piped: Piped, upstream: Upstream) -> None:
    upstream.script = scripts.stream_pieces(["\x1b[31m", "é😀\n", "\n"])
    assert piped("hello").stdout == "\x1b[31mé😀\n\n"


@pytest.mark.parametrize(
    ("script", "output", "reason"),
    [
        (scripts.api_error(500), "", "failed (500)"),
        (scripts.raw(b'data: {"choices":[{"index":0,"delta":{"content":"half"}}],"model":"m"}\n\n'), "half\n", ""),
    ],
)
def test_failed_answer_is_one_error_line(
    piped: Piped, upstream: Upstream, script: Script, output: str, reason: str
) -> None:
    upstream.script = script
    result = piped("hello")
    assert (result.exit_code, result.stdout) == (1, output)
    assert re.fullmatch(r"parley: [^\n]+\n", result.stderr)
    assert reason in result.stderr


@pytest.mark.parametrize(
    ("message", "arguments", "line"),
    [
        ("x" * 10_001, [], "message: Length must be between 1 and 10000."),
        ("hello", ["--conversation", str(uuid4())], "There is no such conversation."),
    ],
)
def test_refused_request_is_one_error_line(piped: Piped, message: str, arguments: list[str], line: str) -> None:
    result = piped(message, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(rf"parley: [^\n]*{re.escape(line)}\n", result.stderr)


def test_conversation_of_other_user_is_not_found(piped: Piped, engine: Engine, other_user: LoggedInUser) -> None:
    foreign = make_conversation(engine, other_user, title="theirs")
    result = piped("hello", "--conversation", str(foreign))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "theirs" not in result.stderr


def test_wrong_token_is_one_error_line_without_token(piped: Piped) -> None:
    result = piped("hello", token="prl_secret")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"parley: [^\n]+\n", result.stderr)
    assert "prl_secret" not in result.stderr


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("", []),
        ("  \n ", []),
        (b"\xff\xfe", []),
        ("x" * 1_100_000, []),
        ("hello", ["--url", "localhost:8000"]),
        ("hello", ["--url", "ftp://localhost"]),
        ("hello", ["--conversation", "5"]),
        ("hello", ["--conversation", str(uuid4()), "--last"]),
        ("hello", ["--register"]),
        ("hello", ["--email", "ada@example.org"]),
    ],
)
def test_usage_error_sends_nothing(
    piped: Piped, upstream: Upstream, user: LoggedInUser, rows: Rows, message: str | bytes, arguments: list[str]
) -> None:
    result = piped(message, *arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert rows("SELECT FROM conversations WHERE user_id = :u", u=user.id) == []


def test_missing_token_without_terminal_is_usage_error(url: str) -> None:
    result = CliRunner().invoke(chat, ["--url", url], input="hello", env={"PARLEY_TOKEN": None})
    assert result.exit_code == 2
    assert "PARLEY_TOKEN" in result.stderr


def test_unreachable_server_is_one_error_line(piped: Piped) -> None:
    result = piped("hello", to="http://127.0.0.1:1")
    assert result.exit_code == 1
    expected = "parley: No response from http://127.0.0.1:1 (connection refused). Is Parley running there?\n"
    assert result.stderr == expected


@pytest.mark.parametrize("path", ["/v1", "/v1/models/none"])
def test_other_server_is_one_error_line(piped: Piped, upstream: Upstream, path: str) -> None:
    result = piped("hello", to=upstream.base_url.removesuffix("/v1") + path)
    assert result.exit_code == 1
    assert re.fullmatch(r"parley: [^\n]+ did not send a Parley response[^\n]*\n", result.stderr)


def test_expired_token_is_refreshed_and_ended_session_is_reported(
    url: str, chat_app: Flask, user: LoggedInUser, rows: Rows
) -> None:
    with chat_app.app_context():
        claims = {"sid": str(user.session_id)}
        expired = create_access_token(str(user.id), additional_claims=claims, expires_delta=timedelta(hours=-1))
    client = ParleyClient(url, expired)
    with pytest.raises(ClientError, match="has expired"):
        client.last_conversation()
    client.login(user.email, PASSWORD)
    for _ in range(2):
        client._token = expired
        assert client.last_conversation() is None
    with chat_app.test_client() as other:
        other.post(
            "/api/auth/password",
            json={"current_password": PASSWORD, "new_password": "another long password"},
            headers=user.headers,
        )
    with pytest.raises(ClientError, match="log in again") as refused:
        client.last_conversation()
    assert refused.value.status == 401
    client.logout()


@pytest.mark.process
def test_broken_stream_is_resumed(server: BaseWSGIServer, upstream: Upstream, user: LoggedInUser) -> None:
    upstream.script = gate = Gate()
    with Proxy(("127.0.0.1", server.server_port)) as proxy:
        process = subprocess.Popen(
            [sys.executable, "-c", "from ops.cli.chat import chat; chat()", "--url", f"http://127.0.0.1:{proxy.port}"],
            cwd=PROJECT,
            env=own_environment(PARLEY_TOKEN=user.access_token),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with reaped(process):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"hello")
            process.stdin.close()
            assert process.stdout.read(6) == b"begin "
            proxy.cut()
            gate.opened.set()
            proxy.repair()
            assert process.stdout.read() == b"end\n"
            assert process.wait(SECONDS) == 0


class Terminal:
    """A program on its own terminal."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            arguments, cwd=PROJECT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""

    def sees(self, text: str) -> str:
        """Wait until `text` is displayed; return the output since the last call up to its end."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
            piece = self._read() if ready else ""
            assert piece, f"{text!r} is not shown: {self.shown!r}"
            self.shown += piece
        before, found, self.shown = self.shown.partition(text)
        return before + found

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def ends(self) -> int:
        """Wait for the end of the process; return its exit code."""
        while piece := self._read():
            self.shown += piece
        return self.process.wait(SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        os.close(self._ours)

    def _read(self) -> str:
        """Return the next output; empty at the end."""
        with contextlib.suppress(OSError):  # the terminal reports a closed writer as an error
            return os.read(self._ours, 65_536).decode(errors="replace")
        return ""


def _own_terminal() -> None:
    """Make standard input the controlling terminal of the child process.

    SIGINT is reset, because a shell ignores it in background jobs and children inherit that.
    """
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(url: str, home: Path) -> Iterator[Callable[..., Terminal]]:
    """Return a function that starts `flask chat` on a terminal."""
    started: list[Terminal] = []

    def start(*arguments: str, **environment: str) -> Terminal:
        known = own_environment(PARLEY_HOME=str(home), TERM="dumb", LC_ALL="C.UTF-8", **environment)
        command = [sys.executable, "-m", "flask", "chat", "--url", url, *arguments]
        started.append(Terminal(command, known))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.mark.process
def test_interactive_conversation(
    terminal: Callable[..., Terminal], upstream: Upstream, home: Path, rows: Rows
) -> None:
    email = f"{new_id().hex}@example.org"
    upstream.queue_scripts(
        scripts.stream_pieces(["hello \x1b[31mred", "\n"]), gate := Gate(), scripts.api_error(500), scripts.echo()
    )
    screen = terminal("--register", "--email", email)
    screen.sees("Name: ")
    screen.types("Ada\n")
    for prompt in ("Password: ", "Repeat for confirmation: "):
        screen.sees(prompt)
        screen.types(f"{PASSWORD}\n")
    screen.sees("> ")
    screen.types("first\n")
    assert "hello \ufffd[31mred" in screen.sees("> ")
    screen.types("second\n")
    screen.sees("begin ")
    screen.types("\x03")
    assert "The server finishes the answer" in screen.sees("> ")
    screen.types("third\n")
    assert "parley: Another turn is running in this conversation" in screen.sees("> ")
    gate.opened.set()
    query = (
        "SELECT m.content FROM messages m JOIN users u ON u.id = m.user_id"
        " WHERE u.email = :email AND m.role = 'assistant' ORDER BY position"
    )
    wait_until(lambda: len(rows(query, email=email)) == 2)  # another thread stores the answer
    assert rows(query, email=email)[1].content == "begin end"
    screen.types("fourth\n")
    assert "parley: " in screen.sees("> ")
    screen.types("\n/new\n")
    screen.sees("New conversation.")
    screen.sees("> ")
    screen.types("fifth\n")
    assert "1 messages; last: fifth" in screen.sees("> ")
    screen.types("\x04")
    assert screen.ends() == 0
    assert "Continue with: flask chat --conversation" in screen.shown
    [(sessions,)] = rows(
        "SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id"
        " WHERE u.email = :email AND s.revoked_at IS NULL",
        email=email,
    )
    assert sessions == 0
    assert not (home / "postgres").exists()


@pytest.mark.process
def test_wrong_password_and_ctrl_c_at_prompt(terminal: Callable[..., Terminal], user: LoggedInUser) -> None:
    screen = terminal("--email", user.email)
    screen.sees("Password: ")
    screen.types("not the password\n")
    assert screen.ends() == 1
    assert "parley: The email address or the password is wrong." in screen.shown
    screen = terminal(PARLEY_TOKEN=user.access_token)
    screen.sees("> ")
    for _ in range(SECONDS):  # one that comes before readline waits for a key is noticed at the next key only
        screen.types("\x03")
        with contextlib.suppress(subprocess.TimeoutExpired):
            screen.process.wait(1)
            break
    # The last of them may meet an interpreter that is ending already; a shell calls both 130.
    assert screen.ends() in (130, -signal.SIGINT)
    assert "Traceback" not in screen.shown
