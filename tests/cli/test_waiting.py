"""Waiting for executions: progress, Ctrl-C, and logs that are followed; with real processes."""

import io
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from controller.cli import ending
from controller.cli.progress import table
from controller.history import ExecutionView, StepView
from tests.cli.place import GREETING, PATIENCE, STUBBORN, WAITING, Place, line_of
from tests.crash.daemon import Daemon, environment
from tests.eventually import wait_until


@pytest.fixture
def daemon(here: Place) -> Iterator[Daemon]:
    """A controller at work here, with an empty source."""
    (here.path / "definitions").mkdir()
    with Daemon(here.path) as running:
        yield running


def _execution(here: Place, status: str) -> str | None:
    found = here.fine("workflows:history", "--status", status, "-f", "json").data["executions"]
    return str(found[0]["id"]) if found else None


def _step_waits(here: Place) -> bool:
    """Whether the step `gate` waits for its signal."""
    execution = _execution(here, "running")
    if execution is None:
        return False
    steps = here.fine("workflows:status", "-e", execution, "-f", "json").data["steps"]
    return any(step["status"] == "waiting" for step in steps)


def test_each_change_is_a_line_where_there_is_no_terminal(here: Place) -> None:
    """Progress stands on stderr, with the time of day; stdout has the outputs alone."""
    here.create(GREETING)
    said = here.fine("workflows:execute", "--id", "greeting")
    assert said.out == "length  5\n"
    progress = [line.split(" ", 1)[1] for line in said.err.splitlines() if " step " in line]
    assert [line.partition(" (")[0] for line in progress][-2:] == [
        "step hello completed",
        "step measure completed",
    ]


def test_a_terminal_shows_the_steps_in_place(here: Place) -> None:
    """On a terminal the steps are a table that is drawn again, and the outputs follow it."""
    here.create(GREETING)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*line_of(None), "workflows:execute", "--id", "greeting"],
        cwd=here.path, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = _read_all(ours)
    assert process.wait(PATIENCE) == 0
    assert "STEP" in shown
    assert "✓ measure" in shown
    assert "length  5" in shown.rpartition("✓ measure")[2]


def _read_all(terminal: int) -> str:
    """Everything until the other end is closed."""
    found = b""
    while True:
        try:
            found += os.read(terminal, 65_536)
        except OSError:  # EIO: nobody has the other end any more
            os.close(terminal)
            return found.decode()


def test_ctrl_c_cancels_what_this_process_executes(here: Place) -> None:
    """Where no controller is at work, the execution ends as cancelled; the exit status is 130."""
    here.create(WAITING)
    with here.beside("workflows:execute", "--id", "waiting") as process:
        wait_until(lambda: _step_waits(here), "the step waits", within=PATIENCE)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == ending.INTERRUPTED
    assert "cancelling; Ctrl-C again kills what runs" in err
    assert _execution(here, "cancelled") is not None


def test_the_second_ctrl_c_kills_what_runs(here: Place) -> None:
    """A step that does not listen to SIGTERM is gone at once."""
    here.create(STUBBORN)
    file = here.path / "pid"
    params = f'{{"file": "{file}"}}'
    with here.beside("workflows:execute", "--id", "stubborn", "-p", params) as process:
        wait_until(lambda: file.exists() and file.read_text(), "the step runs", within=PATIENCE)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert _line_with(process.stderr, "cancelling", "killing")
        process.communicate(timeout=PATIENCE)
    assert process.returncode == ending.INTERRUPTED
    assert not Path(f"/proc/{file.read_text().strip()}").exists()


def _line_with(lines: Iterator[str], *words: str) -> str:
    """The next line with one of these words."""
    return next((line for line in lines if any(word in line for word in words)), "")


def test_ctrl_c_leaves_what_a_controller_executes(here: Place, daemon: Daemon) -> None:
    """The execution goes on, and the command says how to follow and how to cancel it."""
    assert daemon.process.poll() is None
    here.create(WAITING)
    with here.beside("workflows:execute", "--id", "waiting") as process:
        wait_until(lambda: _step_waits(here), "the step waits", within=PATIENCE)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == ending.INTERRUPTED
    execution = _execution(here, "running")
    assert f"windlass workflows:status --execution {execution}" in err
    assert f"windlass workflows:cancel --execution {execution}" in err


def test_a_log_is_followed_to_its_end(here: Place, daemon: Daemon) -> None:
    """`logs --follow` prints what is there and what comes, and ends with the execution."""
    assert daemon.process.poll() is None
    here.create(WAITING)
    execution = here.fine("workflows:execute", "--id", "waiting", "--async").out.strip()
    wait_until(lambda: _step_waits(here), "the step waits", within=PATIENCE)
    with here.beside("logs", execution, "--follow") as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("before before\n")
        here.fine("workflows:signal", "-e", execution, "-n", "go")
        assert process.communicate(timeout=PATIENCE)[0].endswith("after after\n")
    assert process.returncode == 0


def test_a_paused_execution_says_how_to_go_on(here: Place) -> None:
    """Paused is not completed: exit status 1, and the command that resumes it."""
    here.create(WAITING)
    with here.beside("workflows:execute", "--id", "waiting") as process:
        wait_until(lambda: _step_waits(here), "the step waits", within=PATIENCE)
        execution = _execution(here, "running") or ""
        here.fine("workflows:pause", "--execution", execution)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == ending.FAILED
    assert f"paused; go on with: windlass workflows:resume --execution {execution}" in err
    said = here.fine("workflows:resume", "--execution", execution)
    assert said.out == f"resuming {execution}\n"
    assert "no controller is at work" in said.err


def test_a_large_execution_fits_on_the_screen() -> None:
    """What happens now and what failed is shown, and how many steps there are of each status."""
    steps = [StepView(f"s{n}", "", "action", "completed", 1, 0, completed_at=n) for n in range(500)]
    steps[3] = StepView("bad", "", "action", "failed", 2, 0, error=None)
    steps[7] = StepView("now", "", "action", "running", 1, 0, started_at=0)
    view = ExecutionView(None, tuple(steps))  # type: ignore[arg-type]  # only its steps are shown
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(view, 1500, 6))
    lines = console.export_text().splitlines()
    assert len(lines) == 7
    assert [line.split()[1] for line in lines[1:6]] == ["bad", "now", "s497", "s498", "s499"]
    assert "all 500: 498 completed, 1 failed, 1 running" in lines[6]
