"""Real servers for repositories, on the loopback interface: https with a token, and ssh."""

import base64
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.eventually import wait_until
from tests.gitops.repository import run

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass
class Https:
    """A server of all repositories in a folder.

    Attributes:
        ca: The certificate to trust.
        token: The password that it takes, from the user `robot`.
    """

    url: str
    ca: Path
    token: str


@contextmanager
def https_server(folder: Path, token: str, *, versions: bool = True) -> Generator[Https]:
    """git-http-backend behind TLS and basic authentication.

    Args:
        folder: Where the repositories are.
        token: The password that opens them.
        versions: Hears which version of the protocol the client speaks; otherwise it speaks the
            oldest, in which nobody may ask for a commit that no reference names.
    """
    key, certificate = folder / "key.pem", folder / "ca.pem"
    run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost",
        "-addext", "subjectAltName=IP:127.0.0.1",
    )  # fmt: skip
    backend = Path(run("git", "--exec-path").strip()) / "git-http-backend"
    wanted = base64.b64encode(f"robot:{token}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_arguments: object) -> None:
            pass

        def _answer(self) -> None:
            if self.headers.get("Authorization") != f"Basic {wanted}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REMOTE_USER": "robot",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type") or "",
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                "GIT_PROTOCOL": (self.headers.get("Git-Protocol") or "") if versions else "",
            }
            done = subprocess.run(
                [str(backend)], input=body, env=environment, capture_output=True, check=True
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with tls_server(Handler, key, certificate) as url:
        yield Https(url, certificate, token)


@contextmanager
def tls_server(
    handler: type[BaseHTTPRequestHandler], key: Path, certificate: Path
) -> Generator[str]:
    """Anything behind TLS, on a port of its own; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Ssh:
    """An ssh server that lets one key in, as the user who runs the tests."""

    url: str
    key: Path
    known_hosts: Path


@contextmanager
def ssh_server(folder: Path) -> Generator[Ssh]:
    """A real sshd on a port of its own."""
    host, user = folder / "host_key", folder / "user_key"
    for each in (host, user):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(each))
    allowed = folder / "authorized_keys"
    allowed.write_text(user.with_suffix(".pub").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {host}\nAuthorizedKeysFile {allowed}\n"
        f"PidFile {folder / 'sshd.pid'}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: _answers(port), "sshd answers")
        hosts = folder / "known_hosts"
        public = host.with_suffix(".pub").read_text().split()
        hosts.write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
        name = run("id", "-un").strip()
        yield Ssh(f"ssh://{name}@127.0.0.1:{port}", user, hosts)
    finally:
        server.terminate()
        server.communicate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
