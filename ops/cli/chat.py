"""`flask chat`: a conversation in the terminal, or one question in a pipe, with a server that is running."""

import os
import re
import sys
from contextlib import suppress
from uuid import UUID

import click

from app.config import load_settings
from ops.cli.chat_client import ClientError, ParleyClient
from ops.up.address import Address

# To a terminal these are commands; an answer is only words.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HELP = "/new begins a new conversation, /quit or Ctrl-D leaves; Ctrl-C during an answer stops listening to it."
_LARGEST = 1_048_576  # bytes read from a pipe; the server has its own limit
_INTERRUPTED = 130  # exit code of whatever Ctrl-C ends


class Talk:
    """A conversation with the server; `conversation_id` is None until there is one."""

    def __init__(self, client: ParleyClient, conversation_id: str | None) -> None:
        self._client = client
        self.conversation_id = conversation_id

    def ask(self, message: str) -> None:
        """Say `message`, and write the answer to standard output as it comes.

        Raises `ClientError`, also where the answer did not come whole, and `KeyboardInterrupt`.
        """
        written = ""
        try:
            with self._client.say(message, self.conversation_id) as events:
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
            error = turn.get("error") or {"detail": f"The answer was {turn['status']}."}
            raise ClientError(error["detail"])


@click.command("chat")
@click.option("--url", help="Where Parley runs; else on this machine, at the HOST and PORT of its settings.")
@click.option("--email", help="Whose account; the password is asked for. Without it PARLEY_TOKEN says who you are.")
@click.option("--register", is_flag=True, help="Open the account first.")
@click.option("--conversation", type=click.UUID, metavar="ID", help="Go on in this conversation.")
@click.option("--new/--last", default=True, help="Begin a new conversation (the default), or go on in the last one.")
def chat(url: str | None, email: str | None, register: bool, conversation: UUID | None, new: bool) -> None:
    """Chat with a running Parley.

    In a pipe, the input is one message and the output its answer; the exit code is 0 if it came whole, 1 if not, and 2
    if the command makes no sense. PARLEY_TOKEN holds an access token or an API key.
    """
    if conversation is not None and not new:
        raise click.UsageError("Give --conversation or --last, not both.")
    token = None if email or register else os.environ.get("PARLEY_TOKEN")
    if not (token or sys.stdin.isatty()):
        raise click.UsageError("Set PARLEY_TOKEN: a password cannot be asked for while the message comes from a pipe.")
    message = None if sys.stdin.isatty() else _piped()
    client = ParleyClient(_address(url), token)
    try:
        if token is None:
            _enter(client, email, register)
        talk = Talk(client, _where(client, conversation, new))
        if message is None:
            _converse(talk)
        else:
            talk.ask(message)
    except ClientError as error:
        _complain(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    finally:
        client.logout()


def _address(url: str | None) -> str:
    if url is None:
        server = load_settings().server
        return Address(server.host, server.port).url
    if not re.match(r"https?://[^/\s]+", url):
        raise click.BadParameter("it must look like http://127.0.0.1:8000", param_hint="--url")
    return url


def _piped() -> str:
    raw = sys.stdin.buffer.read(_LARGEST + 1)
    try:
        message = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("The input is not text in UTF-8.") from None
    if len(raw) > _LARGEST or not message.strip():
        raise click.UsageError("The input is empty." if raw.isspace() or not raw else "The input is too large.")
    return message


def _enter(client: ParleyClient, email: str | None, register: bool) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("A password cannot be asked for while the message comes from a pipe: use PARLEY_TOKEN.")
    email = email or click.prompt("Email", err=True)
    if register:
        name = click.prompt("Name", err=True)
        client.register(email, click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True), name)
    else:
        client.login(email, click.prompt("Password", hide_input=True, err=True))


def _where(client: ParleyClient, conversation: UUID | None, new: bool) -> str | None:
    """The id of the conversation to go on in, None for a new one."""
    if conversation is None and new:
        return None
    found = client.conversation(str(conversation)) if conversation else client.last_conversation()
    if found is None:
        _note("There is no conversation yet; this is the first.")
        return None
    _note(f"Going on in “{found['title'] or 'untitled'}”, {found['message_count']} messages.")
    return str(found["id"])


def _converse(talk: Talk) -> None:
    """Until the end of the input, /quit or Ctrl-C between answers."""
    _note(_HELP)
    try:
        while (message := _read()) not in (None, "/quit"):
            if message == "/new":
                talk.conversation_id = None
                _note("A new conversation.")
            elif message:
                _ask(talk, message)
    finally:
        if talk.conversation_id:
            _note(f"To go on: flask chat --conversation {talk.conversation_id}")


def _ask(talk: Talk, message: str) -> None:
    try:
        talk.ask(message)
    except ClientError as error:
        _complain(error)
    except KeyboardInterrupt:
        _note("The server goes on with the answer; the conversation will have it.")


def _read() -> str | None:
    """A line from the terminal, None at the end."""
    try:
        if sys.stdout.isatty():
            with suppress(ImportError):
                import readline  # noqa: F401  # gives input() its editing and its history
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
    """Write to standard output at once; gives what was written."""
    shown = _CONTROLS.sub("\ufffd", text) if sys.stdout.isatty() else text
    click.echo(shown, nl=False, color=True)  # else click takes out what looks like a color
    return text


def _note(text: str) -> None:
    """A line of our own, to standard error."""
    click.secho(_CONTROLS.sub("\ufffd", text), err=True, dim=True)


def _complain(error: ClientError) -> None:
    click.secho(f"parley: {_CONTROLS.sub(' ', str(error))}", err=True, fg="red")
