"""`flask chat`: an interactive conversation in the terminal, or one message through a pipe.

The `flask` command imports this module for each of its commands, so the client is imported when the command runs.
"""

from uuid import UUID

import click


@click.command("chat")
@click.option(
    "--url", help="URL of the server; by default the server of `make up`, else HOST and PORT of the settings."
)
@click.option("--email", help="Log in with this address; asks for the password. By default PARLEY_TOKEN is used.")
@click.option("--register", is_flag=True, help="Register the account first.")
@click.option("--conversation", type=click.UUID, metavar="ID", help="Continue this conversation.")
@click.option("--new/--last", default=True, help="Start a new conversation (default), or continue the last one.")
def chat(url: str | None, email: str | None, register: bool, conversation: UUID | None, new: bool) -> None:
    """Chat with a running Parley server.

    In a pipe, the input is one message and the output is its answer. Exit codes: 0 complete answer, 1 failed, 2 usage
    error. PARLEY_TOKEN holds an access token or an API key.
    """
    if conversation is not None and not new:
        raise click.UsageError("Use either --conversation or --last, not both.")
    from ops.cli.chat_session import run_chat

    run_chat(url, email=email, register=register, conversation_id=conversation, new=new)
