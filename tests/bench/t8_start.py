"""T8: start to ready, memory and processor when idle, and the quick commands."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench.engine import row
from tests.bench.limits import Limits
from tests.bench.table import Row
from tests.crash.daemon import Daemon, environment

ROUNDS = 5
IDLE_SECONDS = 10.0
HELLO = "name: hello\nsteps:\n  - {id: a, type: action, action: log, inputs: {message: hello}}\n"


def command(folder: Path, *arguments: str) -> float:
    """Seconds a command line takes."""
    begin = time.perf_counter()
    subprocess.run(  # our own program
        [sys.executable, "-m", "controller", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - begin


def _memory(pid: int) -> float:
    """Resident megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _processor(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(pids: Sequence[int]) -> tuple[float, float]:
    """Megabytes and percent of one core of some processes while nothing happens."""
    time.sleep(2)  # until what starting left behind is done
    before = sum(map(_processor, pids))
    time.sleep(IDLE_SECONDS)
    busy = (sum(map(_processor, pids)) - before) / IDLE_SECONDS * 100
    return sum(map(_memory, pids)), busy


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """A daemon of its own, as a user starts it."""
    (folder / "definitions").mkdir()
    (folder / "definitions" / "hello.yaml").write_text(HELLO)
    ready: list[float] = []
    memory = busy = 0.0
    for number in range(ROUNDS):
        daemon = Daemon(folder)
        begin = time.perf_counter()
        with daemon:
            ready.append(time.perf_counter() - begin)
            if number == ROUNDS - 1:
                memory, busy = idle([daemon.process.pid])
            daemon.stop()
    yield row("T8 start to ready", "s", ready[1:], target=0.8)
    yield row("T8 idle memory", "MB", [memory], target=100)
    yield row("T8 idle processor", "%", [busy], target=0.2)
    bare = limits.python / 1000
    helps = [command(folder, "--help") for _ in range(ROUNDS)]
    yield row("T8 --help", "s", helps, target=0.15, limit=bare)
    lists = [command(folder, "workflows:list") for _ in range(ROUNDS)]
    yield row("T8 workflows:list", "s", lists, target=0.4, limit=bare)
