"""What one seed says: who wants what, when, and what goes wrong.

Everything is in lists of plain things that stand for themselves, so that a failing scenario can be
made smaller by leaving some of them out: what happens by chance meanwhile follows from the seed and
the name of what it happens to.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.fake_clock import START
from tests.simulation.workflows import scheduled, workflow

BUSY = 20.0
"""Seconds in which people wish and things go wrong; after that everything comes to its end."""

DISK_FAULTS = ("failed", "unsure", "crash-before", "crash-after", "slow")
WISHES = ("execute",) * 3 + ("cancel", "kill", "pause", "pause", "resume", "signal", "retry")


_SPANS = {"crash": 500, "stop": 500, "stall": 500, "unread": 300, "jump": int(BUSY)}


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody asks for something at so many seconds; `which` chooses among what there is."""

    at: float
    kind: str
    which: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong.

    Attributes:
        kind: `crash`, `stop` (as one is asked to) or `stall` before the step of a loop, one of
            `DISK_FAULTS` at a commit, `unread` at a read, `jump` (of wall clocks) at a second.
        at: The number of the step, commit or read; or the second.
        size: Seconds: until the process is there again, the grace of a stop, a commit takes, a
            clock is set forward.
    """

    kind: str
    at: int
    size: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """All there is to a seed.

    Attributes:
        controllers: More than one: by leases, as on PostgreSQL; one: by lock, as on SQLite.
        definitions: Workflows, in the order in which they are created or changed.
    """

    seed: int
    controllers: int
    definitions: tuple[dict[str, Any], ...]
    wishes: tuple[Wish, ...]
    faults: tuple[Fault, ...]


def scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    chance = Random(seed)
    controllers = chance.choice((1, 2, 2))
    return Scenario(
        seed,
        controllers,
        _definitions(chance),
        _wishes(chance),
        _faults(chance, controllers),
    )


def _definitions(chance: Random) -> tuple[dict[str, Any], ...]:
    child = workflow(chance, "child", 1, [])
    if chance.random() < 0.3:
        child["triggers"] = [{"type": "event", "config": {"event": "rang"}}]
    parent = workflow(chance, "parent", 1, ["child"])
    if chance.random() < 0.4:
        end = datetime.fromtimestamp(START / 1000 + BUSY, UTC).isoformat()
        parent = scheduled(chance, parent, end)
    found = [child, parent]
    if chance.random() < 0.4:
        found.append(workflow(chance, chance.choice(("child", "parent")), 2, []))
    return tuple(found)


def _wishes(chance: Random) -> tuple[Wish, ...]:
    first = Wish(1.0, "execute", 0)
    more = [
        Wish(round(chance.uniform(1, BUSY), 3), chance.choice(WISHES), chance.randrange(1_000))
        for _ in range(chance.randint(1, 8))
    ]
    return first, *sorted(more, key=lambda wish: wish.at)


def _faults(chance: Random, controllers: int) -> tuple[Fault, ...]:
    kinds = ["crash", "crash", "stop", "stop", "stall", "unread", *DISK_FAULTS, "jump"]
    found = []
    for _ in range(chance.choice((0, 1, 2, 3, 4, 6))):
        kind = chance.choice(kinds)
        span = _SPANS.get(kind, 120)
        at = int(span ** chance.uniform(0.2, 1))
        size = round(chance.choice((0.5, 3, 20)) * chance.uniform(0.1, 1), 3)
        if kind == "stall":
            size = round(chance.uniform(1, 40), 3)
        if kind == "stop":
            size = chance.choice((0, 0, 0.5, 5))
        if kind == "jump":
            size = chance.choice((-1, 1)) * (size * 60 if controllers == 1 else size / 20)
        found.append(Fault(kind, at, size))
    return tuple(found)
