"""The chat session of `flask chat`: authentication, input and output."""

import os
import re
import sys
from contextlib import suppress
from uuid import UUID

import click

from app.config import load_settings
from ops.cli.chat_client import ClientError, ParleyClient
from ops.up.address import Address, running_url

# Control characters, which a terminal would interpret as commands.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HELP = "/new starts a new conversation; /quit or Ctrl-D exits; Ctrl-C stops displaying an answer."
_MAX_INPUT = 1_048_576  # bytes read from a pipe; the server has its own limit
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class ChatSession:
    """One conversation with the server; `conversation_id` is None until the first turn."""

    def __init__(self, client: ParleyClient, conversation_id: str | None) -> None:
        self._client = client
        self.conversation_id = conversation_id

    def send(self, message: str) -> None:
        """Send `message` and stream the answer to standard output.

        Raises `ClientError`, also for an incomplete answer, and `KeyboardInterrupt`.
        """
        written = ""
        try:
            with self._client.send_message(message, self.conversation_id) as events:
                for kind, data in events:
                    turn = data.get("turn", {})
                    self.conversation_id = turn.get("conversation_id", self.conversation_id)
                    if kind == "turn.restarted" and written:
                        written = _write("\n\n")
                    elif kind == "message.delta":
                        written += _write(data["text"])
                    elif kind == "message.completed" and not written:
                        written = _write(data["message"]["content"] or "")
        finally:
            if written and not written.endswith("\n"):
                _write("\n")
        if kind != "turn.completed":
            error = turn.get("error") or {"detail": f"The answer is incomplete: {turn['status']}."}
            raise ClientError(error["detail"])


def run_chat(url: str | None, *, email: str | None, register: bool, conversation_id: UUID | None, new: bool) -> None:
    """Run the command. Raises `click.UsageError`; exits with 1 after a failure and with 130 after Ctrl-C."""
    token = None if email or register else os.environ.get("PARLEY_TOKEN")
    if not (token or sys.stdin.isatty()):
        raise click.UsageError("Set PARLEY_TOKEN: no password prompt is possible while the message comes from a pipe.")
    message = None if sys.stdin.isatty() else _read_pipe()
    client = ParleyClient(_server_url(url), token)
    try:
        if token is None:
            _log_in(client, email, register)
        session = ChatSession(client, _select_conversation(client, conversation_id, new))
        if message is None:
            _run_interactively(session)
        else:
            session.send(message)
    except ClientError as error:
        _print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        client.logout()


def _server_url(url: str | None) -> str:
    if url is None:
        server = load_settings().server
        return running_url(server.home) or Address(server.host, server.port).url
    if not re.match(r"https?://[^/\s]+", url):
        raise click.BadParameter("must look like http://127.0.0.1:8000", param_hint="--url")
    return url


def _read_pipe() -> str:
    raw = sys.stdin.buffer.read(_MAX_INPUT + 1)
    try:
        message = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("The input is not UTF-8 text.") from None
    if len(raw) > _MAX_INPUT or not message.strip():
        raise click.UsageError("The input is empty." if raw.isspace() or not raw else "The input is too large.")
    return message


def _log_in(client: ParleyClient, email: str | None, register: bool) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("No password prompt is possible while the message comes from a pipe: use PARLEY_TOKEN.")
    email = email or click.prompt("Email", err=True)
    if register:
        name = click.prompt("Name", err=True)
        client.register(email, click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True), name)
    else:
        client.login(email, click.prompt("Password", hide_input=True, err=True))


def _select_conversation(client: ParleyClient, conversation_id: UUID | None, new: bool) -> str | None:
    """Return the id of the conversation to continue, None for a new one."""
    if conversation_id is None and new:
        return None
    conversation = client.conversation(str(conversation_id)) if conversation_id else client.last_conversation()
    if conversation is None:
        _print_note("You have no conversation yet; starting one.")
        return None
    _print_note(f"Continuing “{conversation['title'] or 'untitled'}” ({conversation['message_count']} messages).")
    return str(conversation["id"])


def _run_interactively(session: ChatSession) -> None:
    """Read and send messages until the end of the input, /quit, or Ctrl-C at the prompt."""
    _print_note(_HELP)
    try:
        while (message := _read_line()) not in (None, "/quit"):
            if message == "/new":
                session.conversation_id = None
                _print_note("New conversation.")
            elif message:
                _send(session, message)
    finally:
        if session.conversation_id:
            _print_note(f"Continue with: flask chat --conversation {session.conversation_id}")


def _send(session: ChatSession, message: str) -> None:
    try:
        session.send(message)
    except ClientError as error:
        _print_error(error)
    except KeyboardInterrupt:
        _print_note("The server finishes the answer and stores it in the conversation.")


def _read_line() -> str | None:
    """Read a line from the terminal; return None at the end of the input."""
    try:
        if sys.stdout.isatty():
            with suppress(ImportError):
                import readline  # noqa: F401  # gives input() line editing and history
            line = input("> ")
        else:
            click.echo("> ", nl=False, err=True)
            line = sys.stdin.readline()
            if not line:
                raise EOFError
    except EOFError:
        click.echo(err=True)
        return None
    return line.encode(errors="surrogateescape").decode(errors="replace").strip()


def _write(text: str) -> str:
    """Write `text` to standard output without buffering and return it."""
    shown = _CONTROLS.sub("\ufffd", text) if sys.stdout.isatty() else text
    click.echo(shown, nl=False, color=True)  # otherwise click removes color codes
    return text


def _print_note(text: str) -> None:
    """Print a dimmed line to standard error."""
    click.secho(_CONTROLS.sub("\ufffd", text), err=True, dim=True)


def _print_error(error: ClientError) -> None:
    click.secho(f"parley: {_CONTROLS.sub(' ', str(error))}", err=True, fg="red")
