"""T9: `kill -9` amid executions whose steps each write a line, and what follows the restart."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.peers.system import KILLED, KILLED_STEPS, ROUNDS, Figures
from tests.eventually import wait_until

ALL = KILLED * KILLED_STEPS
AT = ALL * 3 // 10
"""Lines at which it is killed."""

SCRIPT = 'echo "$1-$2 $(date +%s%N)" >> "$3"'
"""What each step does, for the shell: given the execution, the step and the file."""

QUIET = 0.3
"""Seconds without a line: what was started before the kill has ended."""

PATIENCE = 120.0


Kill = Callable[[], None]
Start = Callable[[Path | None], AbstractContextManager[Kill]]
"""The first start is given the file for the lines, and begins the executions."""


def _lines(log: Path) -> list[tuple[str, float]]:
    """Who wrote, and when."""
    if not log.exists():
        return []
    whole = [line.split() for line in log.read_text().splitlines(keepends=True) if "\n" in line]
    return [(who, int(when) / 1e9) for who, when in whole]


def _once(start: Start, log: Path) -> tuple[float, int]:
    """Seconds from the second start to the first line after it, and how many lines came twice."""
    with start(log) as kill:
        wait_until(lambda: len(_lines(log)) >= AT, "it executes", within=PATIENCE)
        kill()
    wait_until(lambda: time.time() - log.stat().st_mtime > QUIET, "all is quiet", within=PATIENCE)
    before = len(_lines(log))
    begin = time.time()
    with start(None):
        wait_until(
            lambda: len({who for who, _ in _lines(log)}) == ALL, "all is done", within=PATIENCE
        )
    lines = _lines(log)
    twice = sum(count - 1 for count in Counter(who for who, _ in lines).values())
    return min(when for _, when in lines[before:]) - begin, twice


def figures(folder: Path, state: Callable[[Path], AbstractContextManager[Start]]) -> Figures:
    """`state(folder)` prepares a round, and is around both its starts."""
    found = []
    for number in range(ROUNDS):
        place = folder / str(number)
        place.mkdir()
        with state(place) as start:
            found.append(_once(start, place / "lines"))
    return {"first": [first for first, _ in found], "again": [again for _, again in found]}
