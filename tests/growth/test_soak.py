"""The soak, short: enough for whatever an execution leaves behind to show, if it is much."""

from pathlib import Path

import pytest

from tests.growth.soak import Line, Sample, soak

COUNT = 6_000

MEMORY = 8_000.0
"""Bytes an execution may leave behind while caches still fill; one kept in memory is twice that."""

FILE = 500.0
"""Bytes of the database; one that is not pruned is over a thousand."""


@pytest.mark.timeout(300)
def test_executions_leave_nothing_behind(tmp_path: Path) -> None:
    """No memory, no file handle, and no place in the file beyond what is kept."""
    line = Line.of(soak(tmp_path, COUNT, keep=300, samples=30, prune="1s"))
    assert line.faults(MEMORY, FILE) == []


def test_what_is_left_behind_is_seen() -> None:
    """A line that rises, by memory, by file or by handles, is not flat."""
    flat = [Sample(number * 100, 80_000_000, 20, 5_000_000) for number in range(100)]
    assert Line.of(flat).faults() == []
    rising = [
        Sample(
            each.done,
            each.memory + each.done * 50,
            20 + each.done // 500,
            each.file + each.done * 60,
        )
        for each in flat
    ]
    assert [each.partition(",")[0] for each in Line.of(rising).faults()] == [
        "memory",
        "file",
        "file handles",
    ]
