"""The benchmark's own parts: what it prints, and that it measures something."""

from pathlib import Path

import pytest

from tests.bench import limits
from tests.bench.table import Row, render


def test_the_table_shows_the_figure_beside_target_and_limit() -> None:
    """A figure that falls short is printed like any other, and says so."""
    shown = render([
        Row("one step", "ms", 0.312, "less", target=0.5, limit=0.16, spread=(0.3, 0.35)),
        Row("steps", "/s", 9_000, "more", target=10_000),
    ])
    assert shown.splitlines() == [
        "              measured     spread    target  limit  ratio",
        "one step, ms     0.312  0.3..0.35     ≤ 0.5   0.16   1.95    met",
        "steps, /s        9,000             ≥ 10,000                SHORT",
    ]


def test_the_limits_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every limit is a positive number, and nothing is left behind."""
    monkeypatch.setattr(limits, "ROUNDS", 1)
    monkeypatch.setattr(limits, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(limits, "BATCH_ROWS", 1000)
    found = limits.measure(tmp_path)
    assert min(found.syncs, found.commits, found.rows, found.spawns, found.python) > 0
    assert list(tmp_path.iterdir()) == []


def test_the_limits_of_postgresql_are_measured(tmp_path: Path) -> None:
    """A server on the same disk says how many commits it takes; it leaves nothing behind."""
    with limits.postgres(tmp_path) as found:
        assert min(found.commits, found.many) > 0
    assert list(tmp_path.iterdir()) == []
