"""An SMTP server on loopback that keeps what it accepts. TLS has the certificate of tests/tls, for `localhost`."""

import base64
import contextlib
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "tls" / "data"
CA = DATA / "ca.pem"


@dataclass
class Received:
    """An accepted mail: sender and recipients as the envelope has them, and whether it came over TLS."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    over_tls: bool


@dataclass
class MailServer:
    """`replies` are the replies to commands that differ from success, for example `{"RCPT": "550 no such user"}`.

    `silent` commands get no reply. With `account`, (user, password), a login is required.
    """

    implicit_tls: bool = False
    starttls: bool = False
    account: tuple[str, str] | None = None
    replies: dict[str, str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    received: list[Received] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def __enter__(self) -> "MailServer":
        owner = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                conversation = _Conversation(owner, self.request)
                with contextlib.suppress(OSError), contextlib.closing(conversation):
                    conversation.run()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])


class _Conversation:
    def __init__(self, server: MailServer, connection: Any) -> None:
        self._server, self._connection = server, connection
        self._over_tls, self._logged_in = False, server.account is None
        self._sender, self._recipients = "", list[str]()
        self._lines: Any = None

    def run(self) -> None:
        if self._server.implicit_tls:
            self._start_tls()
        self._open("220 ready")
        while line := self._lines.readline():
            command = line.decode().strip()
            self._server.commands.append(command)
            verb = command.split(" ")[0].upper()
            if verb in self._server.silent:
                threading.Event().wait(60)
                return
            if self._answer(verb, command) is False:
                return

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()
        self._connection.close()

    def _open(self, greeting: str | None = None) -> None:
        if self._lines is not None:
            self._lines.close()
        self._lines = self._connection.makefile("rb")
        if greeting:
            self._send(greeting)

    def _send(self, reply: str) -> None:
        self._connection.sendall(reply.encode() + b"\r\n")

    def _start_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(DATA / "server.pem", DATA / "server-key.pem")
        self._connection = context.wrap_socket(self._connection, server_side=True)
        self._over_tls = True

    def _answer(self, verb: str, command: str) -> bool | None:
        if verb in self._server.replies:
            self._send(self._server.replies[verb])
        elif verb == "EHLO":
            offers = [f"250-{offer}" for offer in self._offers()]
            self._send("\r\n".join(["250-localhost", *offers, "250 HELP"]))
        elif verb == "STARTTLS" and self._server.starttls:
            self._send("220 go ahead")
            self._start_tls()
            self._open()
        elif verb == "AUTH":
            given = base64.b64decode(command.split(" ")[-1]).decode().split("\0")[1:]
            self._logged_in = tuple(given) == self._server.account
            self._send("235 welcome" if self._logged_in else f"535 wrong password for {given[0]}")
        elif verb == "MAIL" and not self._logged_in:
            self._send("530 log in first")
        elif verb == "MAIL":
            self._sender, self._recipients = command.split("<")[1].split(">")[0], []
            self._send("250 ok")
        elif verb == "RCPT":
            self._recipients.append(command.split("<")[1].split(">")[0])
            self._send("250 ok")
        elif verb == "DATA":
            self._receive()
        elif verb == "QUIT":
            self._send("221 bye")
            return False
        else:
            self._send("250 ok" if verb in ("NOOP", "RSET") else "502 unknown")
        return None

    def _offers(self) -> list[str]:
        return [*(["STARTTLS"] if self._server.starttls and not self._over_tls else []), "AUTH PLAIN", "SMTPUTF8"]

    def _receive(self) -> None:
        self._send("354 go on")
        lines = []
        while (line := self._lines.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        message = message_from_bytes(b"".join(lines), policy=policy.default)
        self._server.received.append(Received(self._sender, self._recipients, message, self._over_tls))
        self._send("250 accepted")
