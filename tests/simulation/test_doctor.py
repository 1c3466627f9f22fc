"""Whatever went wrong, `doctor` finds nothing that the next controller does not see to."""

from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import Engine

from controller.doctor.examine import Examination, Manner
from controller.doctor.executions import Around
from controller.execute.action import BUILT_IN
from controller.store.connecting import connect, parse_url
from controller.store.direct import Direct
from controller.store.opening import HEAD
from tests.simulation.mutations import MUTATIONS
from tests.simulation.scenario import scenario
from tests.simulation.world import simulate

USUAL, THOROUGH, AT_ONCE = 100, 5_000, 10

EXPECTED = {"execution-left-owned", "execution-unanswered"}
"""What stands when a process has just gone: what it had, and a child it was about to create."""


@cache
def _first() -> Engine:
    """What is compiled for one database, all have."""
    return connect(parse_url("sqlite:////nonexistent/windlass.db"), 1).reader


def _found(path: Path, around: Around) -> dict[str, list[str]]:
    """What a full examination finds, by kind."""
    engines = connect(parse_url(f"sqlite:///{path}"), 1)
    for engine in engines[:2]:
        engine.dialect = engine.pool._dialect = _first().dialect
        engine._compiled_cache = _first()._compiled_cache
    try:
        database = Direct(engines, path, str(path), HEAD)
        manner = Manner(full=True, repair=False)
        report = Examination(database, BUILT_IN, around, manner).run()
    finally:
        for engine in engines[:2]:
            engine.dispose()
    return {name: [str(each) for each in tally.named] for name, tally in report.tallies.items()}


def _met(seed: int) -> list[dict[str, list[str]]]:
    """What is found in one history, each time a process has gone and in the end."""
    met: list[dict[str, list[str]]] = []

    def look(path: Path, now: int, at_work: bool) -> None:  # ruff: ignore[boolean-type-hint-positional-argument]  # what a `Look` takes
        met.append(_found(path, Around(now, shared=False, at_work=at_work)))

    simulate(scenario(seed), look)
    return met


def _hold(first: int, count: int) -> None:
    for seed in range(first, first + count):
        *crashed, ended = _met(seed)
        assert ended == {}, f"seed {seed}, in the end"
        for each in crashed:
            assert each.keys() <= EXPECTED, f"seed {seed}"


@pytest.mark.parametrize("first", range(0, USUAL, AT_ONCE))
def test_nothing_is_found_after_whatever_went_wrong(first: int) -> None:
    """At the moment of each crash, and when everything has ended."""
    _hold(first, AT_ONCE)


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(USUAL, THOROUGH, 5 * AT_ONCE))
def test_nothing_is_found_in_many_more(first: int) -> None:
    """The same, in thousands."""
    _hold(first, 5 * AT_ONCE)


def test_a_product_that_records_less_than_it_knows_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An execution that failed without its row saying why, in the first history with one."""
    MUTATIONS["forgets errors"].apply(monkeypatch)
    found = (set().union(*_met(seed)) - EXPECTED for seed in range(USUAL))
    assert next(filter(None, found)) == {"execution-unlike-events"}
