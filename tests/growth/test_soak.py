"""The soak, short: enough for whatever an execution leaves behind to show."""

import gc
import sys
from pathlib import Path

import pytest

from controller.admission import Wish, admit
from controller.app import App, run_main
from controller.observe.metrics import Metrics
from controller.pruning import Leftovers, Pruner
from controller.store.identity import new_id
from controller.store.retention import Keep
from tests.growth.grown import workflow, working
from tests.growth.soak import Line, Sample, soak
from tests.service.test_executions import opened

COUNT = 6_000

MEMORY = 8_000.0
"""Bytes an execution may leave behind of what is not objects, while the database's caches fill."""

FILE = 900.0
"""Bytes of the database; one that is not pruned is over a thousand."""

OBJECTS = 3.0
"""Blocks of Python's memory an execution may leave behind; its id alone is two, with its place."""


@pytest.mark.timeout(300)
def test_executions_leave_nothing_behind(tmp_path: Path) -> None:
    """No memory, no file handle, and no place in the file beyond what is kept."""
    line = Line.of(soak(tmp_path, COUNT, keep=300, samples=30, prune="1s"))
    assert line.faults(MEMORY, FILE) == []


@pytest.mark.timeout(180)
def test_executions_leave_no_object_behind(tmp_path: Path) -> None:
    """Of a thousand that were executed and pruned, what executes, prunes and counts keeps none."""

    async def count() -> float:
        async with opened(tmp_path) as app, working(app):
            await app.service.create_workflow(workflow("w"))
            app.bus.subscribe(Metrics("x", dict).observe)
            await _execute(app, 1_000)
            before = _blocks()
            await _execute(app, 1_000)
            return (_blocks() - before) / 1_000

    assert run_main(count()) < OBJECTS


async def _execute(app: App, count: int) -> None:
    """Execute so many, and prune them."""
    now = app.clock.now()
    wishes = [Wish(new_id(now), "w", {}, {"type": "manual"}, now) for _ in range(count)]
    for wish in wishes:
        await app.store.write(admit, await app.gate.check(wish))
    app.ring()
    executed = 0
    while executed < count:
        counts = await app.service.count_executions()
        executed = counts.get("completed", 0)
    pruner = Pruner(app.store, app.clock, Keep(last=0), Leftovers())
    await pruner.prune(app.clock.now())
    assert await app.service.count_executions() == {}


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def test_what_is_left_behind_is_seen() -> None:
    """A line that rises, by memory, by file or by handles, is not flat."""
    flat = [Sample(number * 100, 80_000_000, 20, 5_000_000) for number in range(100)]
    assert Line.of(flat).faults() == []
    rising = [
        Sample(each.done, each.memory + each.done * 150, 20 + each.done // 500, each.done * 60)
        for each in flat
    ]
    assert [each.partition(",")[0] for each in Line.of(rising).faults()] == [
        "memory",
        "file",
        "file handles",
    ]
