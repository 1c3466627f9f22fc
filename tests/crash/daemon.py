"""A real daemon in a process of its own, to be killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from tests.eventually import wait_until

PATIENCE = 60.0
"""Seconds a daemon may take to become ready, or to end."""


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def windlass(*arguments: str, cwd: Path, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run a command line in a directory, where the state is `.windlass`."""
    command = [sys.executable, "-m", "controller", *arguments]
    done = subprocess.run(  # our own program
        command,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def environment() -> dict[str, str]:
    """The test's environment without settings of its own."""
    left_out = ("WINDLASS_", "PYTHONDONTWRITEBYTECODE")  # users' interpreters do cache
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


class Daemon:
    """`windlass run` in a directory with `definitions`; used again after each end."""

    def __init__(self, cwd: Path, *flags: str, extra: Mapping[str, str] | None = None) -> None:
        self.cwd = cwd
        self.port = free_port()
        self.log = cwd / "daemon.log"
        self._flags = flags
        self._environment = environment() | dict(extra or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, and wait until it says that it is ready."""
        self.begin()
        return self.await_ready()

    def begin(self, into: IO[bytes] | None = None) -> None:
        """Start it; what it says goes `into` a file, its log by default."""
        command = [sys.executable, "-m", "controller", "run"]
        command += ["--http-address", f"127.0.0.1:{self.port}", *self._flags]
        with into or self.log.open("ab") as log:
            self._process = subprocess.Popen(  # our own program
                command, cwd=self.cwd, env=self._environment, stdout=log, stderr=log
            )

    def await_ready(self) -> Self:
        """Wait until it says that it is ready."""
        try:
            wait_until(self._is_ready, "the daemon is ready", within=PATIENCE)
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.log.read_text()[-3000:]}") from None
        return self

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended:\n{self.log.read_text()[-3000:]}")
        try:
            return bool(self.get("/readyz").startswith(b"{"))
        except OSError:
            return False

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """Its process."""
        assert self._process is not None
        return self._process

    def get(self, path: str) -> bytes:
        """The body of an answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            body: bytes = answer.read()
            return body

    def failures(self) -> dict[str, str]:
        """What it says does not work, when asked whether it is ready."""
        try:
            said = self.get("/readyz")
        except urllib.error.HTTPError as error:
            said = error.read()
        found: dict[str, str] = json.loads(said)["failures"]
        return found

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def measures(self, name: str, value: float) -> bool:
        """Whether this is the value of one of its metrics now."""
        return f"windlass_{name} {float(value)}" in self.get("/metrics").decode().splitlines()

    def kill(self) -> None:
        """`kill -9`."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self.start()

    def end(self) -> None:
        """`kill` it if it has not ended."""
        if self.runs:
            self.kill()

    def __exit__(self, *_error: object) -> None:
        self.end()


def events(log: Path) -> list[dict[str, Any]]:
    """The daemon's log, line by line."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
