"""`windlass run` as who starts it sees it."""

import json
import os
import pty
import signal
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from controller.web.address import address_of, bind
from tests.cli.place import PATIENCE, Place, line_of
from tests.crash.daemon import environment


def _ready(lines: Iterator[str]) -> str:
    """The address that the log names."""
    facts = (json.loads(line) for line in lines if line.startswith("{"))
    return next(str(each["http"]) for each in facts if each["event"] == "ready")


def test_a_port_that_is_free_is_told(here: Place) -> None:
    """Port 0 leaves the choice to the system; the log has what came of it, and there it answers."""
    (here.path / "definitions").mkdir()
    with here.beside("run", "--http-address", "127.0.0.1:0") as process:
        assert process.stderr is not None
        address = _ready(process.stderr)
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=PATIENCE) as answer:
            assert answer.read() == b"ok\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_terminal_is_told_it_too(here: Place) -> None:
    """In the line for people below the log."""
    (here.path / "definitions").mkdir()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*line_of(None), "run", "--http-address", "localhost:0"],
        cwd=here.path, env=environment(), stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = b""
        while b"Ctrl-C stops" not in shown:
            shown += os.read(ours, 65_536)
        [line] = [each for each in shown.decode().splitlines() if "listening on http" in each]
        port = line.partition("http://localhost:")[2].partition(",")[0]
        assert int(port) > 0
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(ours)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_is_shown_as_it_was_asked_for(host: str) -> None:
    """An IPv6 address keeps its brackets."""
    with bind(f"{host}:0") as listening:
        port = listening.getsockname()[1]
        assert address_of(listening, f"{host}:0") == f"{host}:{port}"
