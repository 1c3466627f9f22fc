"""The order of one list of steps: `depends_on`, its default, its mistakes."""

import difflib
from collections.abc import Callable, Iterable, Iterator

from controller.core.definition import Step
from controller.core.problem import Path, Problem


class Graph:
    """Who needs whom in one list (LANGUAGE, "Order").

    Attributes:
        needs: For each step, by position, the ids it waits for.
        dependents: For each step, by position, the ids that wait for it.
        ancestors: For each step, by position, a bit set of the positions that come before it,
            however far. Bit sets keep a list of thousands of steps cheap.
    """

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.steps = steps
        self.index = {step.id: position for position, step in enumerate(steps)}
        self.needs = [self._needs(position) for position in range(len(steps))]
        dependents: list[list[str]] = [[] for _ in steps]
        for position, needs in enumerate(self.needs):
            for name in needs:
                dependents[self.index[name]].append(steps[position].id)
        self.dependents = [tuple(names) for names in dependents]
        self.ancestors, self.stuck = self._sort()

    def _needs(self, position: int) -> tuple[str, ...]:
        given = self.steps[position].depends_on
        if given is None:
            return (self.steps[position - 1].id,) if position else ()
        return tuple(dict.fromkeys(name for name in given if name in self.index))

    def _sort(self) -> tuple[list[int], list[int]]:
        """Kahn's algorithm; what it never reaches is on a cycle or behind one."""
        ancestors = [0] * len(self.steps)
        open_needs = [len(needs) for needs in self.needs]
        front = [position for position, count in enumerate(open_needs) if count == 0]
        while front:
            position = front.pop()
            before = ancestors[position] | (1 << position)
            for name in self.dependents[position]:
                below = self.index[name]
                ancestors[below] |= before
                open_needs[below] -= 1
                if open_needs[below] == 0:
                    front.append(below)
        return ancestors, [position for position, count in enumerate(open_needs) if count > 0]

    def problems(self, path: Path) -> Iterator[Problem]:
        """Unknown names in `depends_on`, and cycles."""
        for position, step in enumerate(self.steps):
            for place, name in enumerate(step.depends_on or ()):
                if name not in self.index:
                    close = difflib.get_close_matches(name, list(self.index), n=1)
                    hint = f"did you mean `{close[0]}`?" if close else None
                    yield Problem(
                        "unknown-dependency",
                        f"step `{step.id}` depends on `{name}`, which is not in the same list",
                        (*path, position, "depends_on", place),
                        hint or "name a step of the same list",
                    )
        way = self._cycle()
        if way:
            yield Problem(
                "cycle",
                f"these steps wait for each other: {' → '.join(way)}",
                (*path, self.index[way[0]], "depends_on"),
                "remove one of the dependencies",
            )

    def _cycle(self) -> tuple[str, ...]:
        """One way round, starting where it is met first; empty when there is none."""
        if not self.stuck:
            return ()
        stuck = set(self.stuck)
        way: list[int] = [self.stuck[0]]
        while True:
            step = next(
                self.index[name] for name in self.needs[way[-1]] if self.index[name] in stuck
            )
            if step in way:
                return tuple(self.steps[one].id for one in [*way[way.index(step) :], step])
            way.append(step)


def way_back(start: str, edges: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
    """A way from a node back to itself along `edges`; empty when there is none."""
    seen: set[str] = set()
    front: list[tuple[str, ...]] = [(start,)]
    while front:
        way = front.pop()
        for target in edges(way[-1]):
            if target == start:
                return (*way, start)
            if target not in seen:
                seen.add(target)
                front.append((*way, target))
    return ()
