"""`windlass run` as who starts it sees it."""

import gc
import json
import os
import pty
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from controller.cli import ending
from controller.web.address import address_of, bind
from tests.cli.place import PATIENCE, Place, line_of
from tests.crash.daemon import environment

RUN = """
import gc, os, signal
from controller import daemon
from controller.cli import start

serve = daemon.serve

async def until_ready(app, ready):
    await serve(app, lambda address: (ready(address), os.kill(os.getpid(), signal.SIGTERM)))

daemon.serve = until_ready
print(start(["run", "--http-address", "127.0.0.1:0"]), gc.isenabled(), gc.get_freeze_count())
"""
"""Runs a controller until it is ready; says how it ended, and what the collector does then."""


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


@pytest.mark.parametrize("address", ["nowhere", "192.0.2.1:80"])
def test_a_run_that_is_refused_leaves_the_collector_at_work(here: Place, address: str) -> None:
    """By its settings, or amid its start: whoever has called it has its garbage collected."""
    gc.unfreeze()
    said = here("run", "--http-address", address)
    assert said.status == ending.REFUSED
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_run_that_ends_leaves_the_collector_at_work(here: Place) -> None:
    """Also when it has been ready, and was told to end."""
    (here.path / "definitions").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout == "0 True 0\n", done.stderr
