"""Makes a failing scenario smaller: whatever can be left out, while it still breaks, is.

Leaving something out changes when things happen, but not what comes of a call; so what is left is
most often what it takes. Halves are left out first, then less and less (delta debugging).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tests.simulation.scenario import Scenario
from tests.simulation.world import Outcome, simulate

T = TypeVar("T")

MOST_TRIES = 150
"""So many smaller scenarios are tried."""


def shrunk(found: Scenario, invariant: str) -> tuple[Scenario, Outcome]:
    """The smallest scenario met that still breaks the invariant, and what came of it."""
    return _Shrinker(found, invariant).shrink()


class _Shrinker:
    def __init__(self, found: Scenario, invariant: str) -> None:
        self._best = found
        self._outcome = simulate(found)
        self._invariant = invariant
        self._tries = 0

    def shrink(self) -> tuple[Scenario, Outcome]:
        """Leave out until nothing more can be."""
        size = -1
        while size != (size := _size(self._best)) and self._tries < MOST_TRIES:
            self._without("faults")
            self._without("wishes")
            self._without("definitions")
            self._steps()
        return self._best, self._outcome

    def _breaks(self, smaller: Scenario) -> bool:
        if self._tries >= MOST_TRIES:
            return False
        self._tries += 1
        outcome = simulate(smaller)
        if outcome.broken is None or outcome.broken.invariant != self._invariant:
            return False
        self._best, self._outcome = smaller, outcome
        return True

    def _without(self, name: str) -> None:
        """Leave out parts of one of the lists."""
        _reduce(
            lambda: getattr(self._best, name),
            lambda kept: self._breaks(replace(self._best, **{name: tuple(kept)})),  # type: ignore[arg-type]  # by name
        )

    def _steps(self) -> None:
        """Leave out steps of the top lists of the definitions."""
        for index in range(len(self._best.definitions)):
            _reduce(
                lambda at=index: self._best.definitions[at]["steps"],  # type: ignore[misc]  # the loop's
                lambda kept, at=index: self._breaks(_with_steps(self._best, at, kept)),  # type: ignore[misc]  # the loop's
            )


def _reduce(parts: Callable[[], Sequence[T]], fits: Callable[[list[T]], bool]) -> None:
    """Leave out ever smaller pieces of the parts that there are, while the rest fits."""
    piece = len(parts())
    while piece:
        start = 0
        while start < len(parts()):
            there = list(parts())
            if not fits(there[:start] + there[start + piece :]):
                start += piece
        piece //= 2


def _with_steps(found: Scenario, index: int, steps: list[dict[str, Any]]) -> Scenario:
    """One definition with fewer steps; what depended on the others depends on nothing."""
    ids = {each["id"] for each in steps}
    kept = []
    for each in steps:
        step = dict(each)
        if "depends_on" in step:
            step["depends_on"] = [name for name in step["depends_on"] if name in ids]
        if step.get("goto") not in {None, *ids}:
            step = {name: value for name, value in step.items() if name not in {"goto", "on_error"}}
        kept.append(step)
    definitions = list(found.definitions)
    definitions[index] = {**definitions[index], "steps": kept}
    return replace(found, definitions=tuple(definitions))


def _size(found: Scenario) -> int:
    return len(found.faults) + len(found.wishes) + len(json.dumps(found.definitions))


def report(result: tuple[Scenario, Outcome]) -> str:
    """A shrunk failure, for people."""
    found, outcome = result
    parts = [
        f"seed {found.seed}, {found.controllers} controllers; smaller than it was, and breaks:",
        *(f"  {json.dumps(each)}" for each in found.definitions),
        *(f"  {each}" for each in (*found.wishes, *found.faults)),
        *outcome.history,
        f"again: python -m tests.simulation {found.seed}",
        "",
    ]
    return "\n".join(parts)
