"""What is measured of every system: the same work under the same key, so that it is comparable."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.bench.table import Row

AT_ONCE = 50
SEQUENCE = 100
STEPS = 10
EXECUTIONS = 500
WIDTH = 1_000
PROCESSES = 5
PROCESS_EXECUTIONS = 100
SCHEDULES = 200
KILLED = 50
KILLED_STEPS = 20

ROUNDS = 5
FEWER_ROUNDS = 3
"""Where one takes longer than twenty seconds."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the comparison."""

    what: str
    unit: str
    better: Literal["less", "more"] = "less"


WORKS: dict[str, dict[str, Figure]] = {
    "t1": {"": Figure(f"T1 {SEQUENCE} no-op steps in sequence", "ms/step")},
    "t2": {
        "": Figure(
            f"T2 {EXECUTIONS} executions x {STEPS} no-op steps, {AT_ONCE} at once",
            "steps/s",
            "more",
        )
    },
    "t3": {"": Figure(f"T3 {WIDTH:,} no-op steps side by side", "s")},
    "t4": {
        "": Figure(
            f"T4 {PROCESS_EXECUTIONS} executions x {PROCESSES} processes, {AT_ONCE} at once",
            "steps/s",
            "more",
        )
    },
    "t6": {
        name: Figure(f"T6 {SCHEDULES} schedules due at once: late, {name}", "s")
        for name in ("p50", "p99", "max")
    },
    "t8": {
        "ready": Figure("T8 start to ready", "s"),
        "memory": Figure("T8 idle memory", "MB"),
        "processor": Figure("T8 idle processor", "%"),
    },
    "t9": {
        "first": Figure(
            f"T9 killed amid {KILLED} x {KILLED_STEPS} steps: first step after the restart", "s"
        ),
        "again": Figure("T9 steps that had done their work and ran again", "steps"),
    },
}
"""Work → key of a figure → what it is."""

Figures = Mapping[str, Sequence[float]]
"""Key → one value a round."""


@dataclass(frozen=True, slots=True)
class System:
    """Something that executes workflows, and how to have it do each work.

    Attributes:
        name: With its version.
        works: Work → a measurement in an empty folder. A work that is not there cannot be done.
        notes: Work → what is not as for the others, such as a smaller size.
    """

    name: str
    works: Mapping[str, Callable[[Path], Figures]]
    notes: Mapping[str, str] = field(default_factory=dict)


def rounds(folder: Path, once: Callable[[Path], float], count: int = ROUNDS) -> Figures:
    """A warm-up, then so many rounds, each in a folder of its own."""
    figures = []
    for number in range(count + 1):
        place = folder / str(number)
        place.mkdir()
        figures.append(once(place))
    return {"": figures[1:]}


def lateness(rounds_late: Sequence[Sequence[float]]) -> Figures:
    """Nearest-rank percentiles of each round."""
    found: dict[str, list[float]] = {"p50": [], "p99": [], "max": []}
    for late in map(sorted, rounds_late):
        for key, rank in (("p50", 0.5), ("p99", 0.99), ("max", 1)):
            found[key].append(late[max(round(rank * len(late)), 1) - 1])
    return found


def compare(work: str, found: Sequence[tuple[System, Figures]], first: System) -> list[Row]:
    """Figure by figure a row a system; `first`, where it is there, is first and the measure."""
    rows = []
    for key, figure in WORKS[work].items():
        ours: float | None = None
        for system, figures in found:
            median = statistics.median(figures[key])
            note = f" ({system.notes[work]})" if work in system.notes else ""
            rows.append(
                Row(
                    f"{figure.what}: {system.name}{note}",
                    figure.unit,
                    median,
                    figure.better,
                    spread=(min(figures[key]), max(figures[key])),
                    ours=ours,
                )
            )
            ours = median if system is first else ours
    return rows
