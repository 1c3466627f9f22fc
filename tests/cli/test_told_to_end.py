"""Signals that end a process, and readers that leave; with real processes."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from controller.cli import ending
from tests.cli.place import PATIENCE, Place
from tests.crash.daemon import Daemon, environment
from tests.eventually import wait_until

HOLDING = """\
name: holding
steps:
  - {id: gate, type: action, action: wait_for_signal, inputs: {name: go}}
  - id: hold
    type: action
    action: shell
    inputs:
      command: |
        echo $$ > "${file}"
        until test -e "${file}.go"; do sleep 0.02; done
  - {id: after, type: action, action: log, inputs: {message: after}}
inputs:
  - {name: file, type: string, required: true}
"""

HELD = HOLDING.replace(
    "  - {id: gate, type: action, action: wait_for_signal, inputs: {name: go}}\n", ""
)

EARLY = """
import signal, sys
from controller.__main__ import main

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupted())
sys.exit(main())
"""
"""Starts a command line, and is interrupted as it imports a module."""

ENDING = [signal.SIGTERM, signal.SIGHUP]


class Held:
    """A workflow whose step `hold` goes on until it is let go."""

    def __init__(self, here: Place, definition: str = HELD) -> None:
        self.here = here
        self.file = here.path / "pid"
        here.create(definition)
        self.line = ("workflows:execute", "--id", "holding", "-p", f'{{"file": "{self.file}"}}')

    @property
    def holds(self) -> bool:
        """Whether the step's process is there."""
        text = self.file.read_text() if self.file.exists() else ""
        return bool(text) and Path(f"/proc/{text.strip()}").exists()

    def let_go(self) -> None:
        """The step completes."""
        Path(f"{self.file}.go").touch()

    def steps(self) -> dict[str, str]:
        """Steps of the execution, with their status."""
        shown = self.here.fine("workflows:status", "-e", self.execution, "-f", "json").data
        return {each["key"]: each["status"] for each in shown["steps"]}

    @property
    def execution(self) -> str:
        """The newest one."""
        listed = self.here.fine("workflows:history", "-f", "json").data["executions"]
        return str(listed[0]["id"])

    def status(self) -> tuple[str, str | None]:
        """Status and owner of the execution, as recorded."""
        with sqlite3.connect(self.here.path / ".windlass" / "windlass.db") as database:
            row = database.execute("SELECT status, owner FROM workflow_executions").fetchone()
        database.close()
        return tuple(row)


def _heard(process: "subprocess.Popen[str]", words: str) -> bool:
    """Read its stderr up to a line with these words."""
    assert process.stderr is not None
    return any(words in line for line in process.stderr)


@pytest.mark.parametrize("number", ENDING, ids=lambda each: each.name)
def test_what_executes_here_is_stopped_in_order(here: Place, number: signal.Signals) -> None:
    """When the grace is over the step's process ends, and the execution is free to go on."""
    here.write("windlass.yaml", "stop_grace: 0\n")
    held = Held(here)
    with here.beside(*held.line) as process:
        wait_until(lambda: held.holds, "the step runs", within=PATIENCE)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == ending.of_signal(number)
    assert "stopping; what runs here gets a grace to finish" in err
    assert f"follow it with: windlass workflows:status --execution {held.execution}" in err
    assert not held.holds
    assert held.status() == ("running", None)


def test_what_finishes_in_the_grace_is_done(here: Place) -> None:
    """A step that completes meanwhile is recorded; the next one begins with the next controller."""
    held = Held(here)
    with here.beside(*held.line) as process:
        wait_until(lambda: held.holds, "the step runs", within=PATIENCE)
        process.send_signal(signal.SIGTERM)
        assert _heard(process, "stopping")
        held.let_go()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == ending.of_signal(signal.SIGTERM)
    assert held.steps() == {"hold": "completed", "after": "pending"}


def test_who_ignores_that_a_terminal_is_closed_goes_on(here: Place) -> None:
    """As under `nohup`: what ends it is the next signal."""
    held = Held(here)
    here.write("windlass.yaml", "stop_grace: 0\n")
    command = f"trap '' HUP; exec {sys.executable} -m controller \"$@\""
    process = subprocess.Popen(["sh", "-c", command, "sh", *held.line], env=environment())
    try:
        wait_until(lambda: held.holds, "the step runs", within=PATIENCE)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == ending.of_signal(signal.SIGTERM)
    finally:
        process.kill()


@pytest.mark.parametrize("number", ENDING, ids=lambda each: each.name)
def test_a_controller_stops_in_order(here: Place, number: signal.Signals) -> None:
    """Also when its terminal is closed: status 0, everything released, and its last words."""
    held = Held(here)
    here.write("windlass.yaml", "stop_grace: 0\n")
    (here.path / "definitions").mkdir()
    with Daemon(here.path) as daemon:
        here.fine(*held.line, "--async")
        wait_until(lambda: held.holds, "the step runs", within=PATIENCE)
        daemon.process.send_signal(number)
        assert daemon.process.wait(PATIENCE) == ending.DONE
        assert '"event": "stopped"' in daemon.log.read_text()
    assert not held.holds
    assert held.status() == ("running", None)


@pytest.mark.parametrize("module", ["controller.cli", "click", "controller.cli.commands"])
def test_ctrl_c_amid_the_imports_is_quiet(module: str) -> None:
    """However early it comes: no trace, and the status of what was interrupted."""
    done = subprocess.run(
        [sys.executable, "-c", EARLY, module], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (ending.INTERRUPTED, "", "")


def test_what_executes_here_goes_on_unread(here: Place) -> None:
    """Nobody reads the progress any more: the execution comes to its end all the same."""
    held = Held(here)
    with here.beside(*held.line) as process:
        assert _heard(process, "step hold running")
        assert process.stderr is not None
        process.stderr.close()
        held.let_go()
        assert process.wait(PATIENCE) == ending.DONE
    assert held.status() == ("completed", None)


def test_what_a_controller_executes_is_left_unread(here: Place) -> None:
    """Nobody reads the progress any more: the command leaves, and the execution goes on."""
    held = Held(here, HOLDING)
    (here.path / "definitions").mkdir()
    with Daemon(here.path):
        with here.beside(*held.line) as process:
            assert _heard(process, "step gate")
            assert process.stderr is not None
            process.stderr.close()
            here.fine("workflows:signal", "-e", held.execution, "-n", "go")
            assert process.wait(PATIENCE) == ending.UNREAD
        wait_until(lambda: held.holds, "the execution goes on", within=PATIENCE)
        held.let_go()
        wait_until(lambda: held.status()[0] == "completed", "it completes", within=PATIENCE)
