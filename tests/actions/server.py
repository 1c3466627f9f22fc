"""An HTTP server on the loopback interface that does what a test asks by path."""

import json
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.actions.stage import Stage


@dataclass
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclass
class Server:
    """Where it listens, and what it has received."""

    url: str
    release: threading.Event = field(default_factory=threading.Event)
    received: list[Received] = field(default_factory=list)


ANSWERS: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {
    "/json": (200, [("Content-Type", "application/json")], b'{"ok": [1, 2.5, null, "\xc3\xa9"]}'),
    "/problem": (400, [("Content-Type", "application/problem+json")], b'{"title": "no"}'),
    "/broken": (200, [("Content-Type", "application/json")], b'{"ok": '),
    "/text": (200, [("Content-Type", "text/plain; charset=latin-1")], b"caf\xe9"),
    "/odd": (200, [("Content-Type", "text/plain; charset=klingon")], b"qapla\xc3\xa9"),
    "/escapes": (200, [("Content-Type", "text/plain; charset=unicode_escape")], b"\\ud800"),
    "/punycode": (
        200,
        [("Content-Type", "text/plain; charset=punycode")],
        b"x-" + b"zzzz9" * 200_000,
    ),
    "/elsewhere": (302, [("Location", "ftp://127.0.0.1/")], b""),
    "/binary": (200, [("Content-Type", "application/octet-stream")], b"\xff\x00"),
    "/missing": (404, [], b"nothing here"),
    "/down": (503, [("Retry-After", "5")], b""),
    "/none": (204, [], b""),
    "/moved": (302, [("Location", "/json")], b""),
    "/circle": (302, [("Location", "/circle")], b""),
    "/large": (200, [], b"x" * 5_000_000),
    "/cookies": (200, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b""),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ours: Server

    def __getattr__(self, name: str) -> Callable[[], None]:
        """`do_GET` and the like: every method is answered."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        """Record the request, and answer as its path says."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.ours.received.append(Received(self.command, self.path, headers, body))
        path = self.path.partition("?")[0]
        if path == "/no-http":
            self.wfile.write(b"220 ready\r\n\r\n")
            self.close_connection = True
            return
        if path == "/slow":
            self.ours.release.wait(10)
        if path == "/cut":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send(*ANSWERS.get(path, (200, [], b"")))

    def send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        """Answer."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # ruff: ignore[builtin-argument-shadowing]  # the base class's
        """Say nothing."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what some tests are about."""


@contextmanager
def listening() -> Generator[Server]:
    """A server for as long as it is needed."""
    server = Server("")
    with _Quiet(("127.0.0.1", 0), type("Handler", (_Handler,), {"ours": server})) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            http.shutdown()
            thread.join()


@asynccontextmanager
async def client(stage: Stage) -> AsyncGenerator[Stage]:
    """The stage, whose connections are closed at the end."""
    try:
        yield stage
    finally:
        await stage.performer.close()
