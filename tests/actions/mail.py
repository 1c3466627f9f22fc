"""A mail server on the loopback interface that keeps what it is given."""

import socketserver
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class Letter:
    """One letter: its envelope and what was in it."""

    sender: str
    to: list[str]
    message: EmailMessage


@dataclass
class Post:
    """Where it listens, when it greets, who came and who has left, and what has arrived."""

    port: int = 0
    greets: threading.Event = field(default_factory=threading.Event)
    clients: int = 0
    left: int = 0
    letters: list[Letter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.greets.set()


class _Handler(socketserver.StreamRequestHandler):
    """The least of SMTP (RFC 5321)."""

    ours: Post

    def handle(self) -> None:
        """One client."""
        self.ours.clients += 1
        self.ours.greets.wait(10)
        with suppress(ConnectionError):
            self.serve()
        self.ours.left += 1

    def serve(self) -> None:
        """What it says."""
        sender, to = "", list[str]()
        self.say("220 ready")
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.upper().partition(" ")
            address = line.partition("<")[2].partition(">")[0]
            if verb == "DATA":
                self.say("354 go on")
                self.ours.letters.append(Letter(sender, to, self.letter()))
            elif rest.startswith("FROM:"):
                sender = address
            elif rest.startswith("TO:"):
                to.append(address)
            if address.startswith("nobody@"):
                to.remove(address)
                self.say("550 there is no nobody")
            else:
                self.say("221 bye" if verb == "QUIT" else "250 fine")

    def say(self, line: str) -> None:
        """One line to the client."""
        self.wfile.write(f"{line}\r\n".encode())

    def letter(self) -> EmailMessage:
        """What comes until a line with a dot alone."""
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line[1:] if line.startswith(b"..") else line)
        return message_from_bytes(b"".join(lines), policy=policy.default)


@contextmanager
def receiving() -> Generator[Post]:
    """A server for as long as it is needed."""
    post = Post()
    with socketserver.ThreadingTCPServer(
        ("127.0.0.1", 0), type("Handler", (_Handler,), {"ours": post})
    ) as server:
        post.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield post
        finally:
            server.shutdown()
            thread.join()
