"""Help is cheap: it imports nothing of what a command works with."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller.cli import COMMANDS

HEAVY = {"aiohttp", "alembic", "asyncio", "pydantic", "rich", "sqlalchemy", "structlog", "uvloop"}

ASK = """
import sys
from controller.cli import start
for line in [["--help"], *([name, "--help"] for name in sys.argv[1:])]:
    assert start(line) == 0, line
print(*sys.modules, file=sys.stderr)
"""

ASK_LIST = """
import sys
from controller.cli import start
assert start(sys.argv[1:]) == 0
print(*sys.modules, file=sys.stderr)
"""

ASK_END = """
import atexit, gc, sys
from controller.__main__ import main
atexit.register(lambda: print(gc.get_freeze_count(), file=sys.stderr))
assert main() == 0
"""

NOT_FOR_A_LIST = {
    "aiohttp",
    "alembic",
    "cel_expr_python",
    "controller.admission",
    "controller.app",
    "controller.authoring",
    "controller.backfill",
    "controller.core.definition",
    "controller.core.expression",
    "controller.core.plan",
    "controller.execute.action",
    "controller.execute.worker",
    "controller.history",
    "controller.planning",
    "controller.reconcile",
    "controller.service",
    "controller.settings",
    "controller.source.examine",
    "controller.source.git",
    "controller.source.parse",
    "controller.views",
    "difflib",
    "fastapi",
    "multiprocessing",
    "prometheus_client",
    "pydantic",
    "pydantic_settings",
    "rich",
    "structlog",
    "yaml",
}

RATIO = 12
"""How many times a bare interpreter's start `--help` may take; it is about five."""

TRIES = 10


def test_help_imports_nothing_heavy() -> None:
    """Neither the help of all commands nor that of any one of them loads what does the work."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, *COMMANDS], capture_output=True, text=True, check=True
    )
    assert set(done.stderr.split()) & HEAVY == set()
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", ["workflows:list", "workflows:history", "schedule:list"])
def test_a_list_imports_only_what_it_needs(tmp_path: Path, command: str) -> None:
    """A quick command does not load what reads definitions, executes, serves, logs or migrates."""
    ask = [sys.executable, "-c", ASK_LIST, command]
    subprocess.run(ask, cwd=tmp_path, capture_output=True, check=True)  # makes the database
    done = subprocess.run(ask, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) & NOT_FOR_A_LIST == set()


def test_the_end_of_a_process_looks_at_nothing_again() -> None:
    """What is in memory when a command line ends is not looked at by the garbage collector."""
    done = subprocess.run(
        [sys.executable, "-c", ASK_END, "--help"], capture_output=True, text=True, check=True
    )
    assert int(done.stderr) > 0


def test_help_costs_little_more_than_the_interpreter() -> None:
    """Measured beside a bare start, again and again while the machine is busy with other things."""
    found: list[tuple[float, float]] = []
    for _ in range(TRIES):
        found.append((_seconds("-c", "pass"), _seconds("-m", "controller", "--help")))
        bare, asked = map(min, zip(*found, strict=True))
        if asked < bare * RATIO:
            return
    raise AssertionError(f"(bare, help) took {found} s")


def _seconds(*arguments: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - begin


SAID = """
import sys
from controller.logs import configure_logs, get_log, load_log

configure_logs("info", sys.argv[1])
load_log()
assert "rich" not in sys.modules
import rich.console
try:
    raise ValueError("seen")
except ValueError:
    get_log("windlass").exception("failed")
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_the_log_of_a_daemon_imports_nothing_that_draws(form: str) -> None:
    """It says what happened, traces too, in either form; and others can import it afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", SAID, form], capture_output=True, text=True, check=True
    )
    assert "failed" in done.stderr
    assert "ValueError: seen" in done.stderr
