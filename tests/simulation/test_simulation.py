"""Whatever goes wrong, nothing is lost and nothing happens twice: hundreds of made-up histories."""

import gc
import os
import subprocess
import sys

import pytest

from tests.simulation.loop import Loop
from tests.simulation.machine import Machine
from tests.simulation.mutations import MUTATIONS
from tests.simulation.scenario import scenario
from tests.simulation.shrink import report, shrunk
from tests.simulation.world import simulate

USUAL, THOROUGH, AT_ONCE = 300, 20_000, 25


def _hold(first: int, count: int) -> None:
    for seed in range(first, first + count):
        found = scenario(seed)
        outcome = simulate(found)
        if outcome.broken is not None:
            pytest.fail(report(shrunk(found, outcome.broken.invariant)), pytrace=False)


@pytest.mark.parametrize("first", range(0, USUAL, AT_ONCE))
def test_every_invariant_holds(first: int) -> None:
    """See `witness.py` for what they are."""
    _hold(first, AT_ONCE)


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(USUAL, THOROUGH, 8 * AT_ONCE))
def test_every_invariant_holds_in_many_more(first: int) -> None:
    """The same, in twenty thousand."""
    _hold(first, min(8 * AT_ONCE, THOROUGH - first))


def test_a_world_that_is_over_is_forgotten() -> None:
    """Thousands of them in one process would take gigabytes otherwise."""
    for seed in range(3):
        simulate(scenario(seed))
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, (Loop, Machine))]


def test_a_seed_is_one_history() -> None:
    """Byte for byte, also in another process, whose sets have another order."""
    history = "\n".join((*simulate(scenario(7)).history, "nothing broke", ""))
    said = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "7"],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert [history, history] == said


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_product_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each guarantee that is given up breaks an invariant within as many seeds as are usual."""
    mutation = MUTATIONS[name]
    mutation.apply(monkeypatch)
    for seed in range(mutation.first, mutation.first + USUAL):
        broken = simulate(scenario(seed)).broken
        if broken is not None:
            assert broken.invariant in mutation.breaks, broken
            return
    pytest.fail(f"nobody noticed: {mutation.apply.__doc__}")


def test_a_failure_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left still breaks the same invariant, and says how to see it again."""
    MUTATIONS["forgets errors"].apply(monkeypatch)
    found = ((each, simulate(scenario(each)).broken) for each in range(USUAL))
    seed = next(each for each, broken in found if broken and broken.invariant == "fold = record")
    smaller, outcome = shrunk(scenario(seed), "fold = record")
    assert outcome.broken is not None
    assert not smaller.faults
    assert len(smaller.wishes) <= 1 < len(scenario(seed).wishes)
    assert f"python -m tests.simulation {seed}" in report((smaller, outcome))
