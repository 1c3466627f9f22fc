"""The simulated world: its time, its processes, and what goes wrong with them.

One process at a time goes one step on, chosen by the seed; when none can, time passes until the
next timer, wish or fault. Between any two steps and at any commit a process may end, stop, or not
reach its database. The seed and the scenario say everything, so the same history comes again.
"""

import contextlib
import functools
import gc
import itertools
import json
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import structlog

from tests.fake_clock import START
from tests.simulation.disk import Disk, database
from tests.simulation.loop import Loop
from tests.simulation.machine import Machine
from tests.simulation.outside import Outside
from tests.simulation.scenario import BUSY, Fault, Scenario, Wish
from tests.simulation.witness import Violation, Witness

LAST = 3_000.0
"""Seconds after which everything has ended, or never will."""

MOST_STEPS = 60_000
"""Steps after which a world that does not end spins."""

AHEAD = (0, 5, 50)
"""Milliseconds before each of the fires due together at which they are written."""

RESTART = 2.0
"""Seconds until a process that ended by itself is started again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        history: What happened, a line each.
        broken: The invariant that was broken, and how; None: none was.
    """

    history: tuple[str, ...]
    broken: Violation | None


Look = Callable[[Path, int, bool], None]
"""Takes the database, the wall clock of who is furthest ahead, and whether somebody is at work."""


def simulate(scenario: Scenario, look: Look | None = None) -> Outcome:
    """What comes of a scenario; nothing but the scenario decides it.

    Args:
        scenario: It.
        look: Called whenever a process has gone, and in the end.
    """
    with _quiet(scenario.seed):
        outcome = _outcome(scenario, look)
        if outcome.broken is not None:
            gc.collect()  # what was left half done must not be complained of later
    return outcome


def _outcome(scenario: Scenario, look: Look | None) -> Outcome:
    with database() as path:
        world = _World(scenario, path, look)
        try:
            world.run()
        except Violation as broken:
            return Outcome((*world.history, f"BROKEN {broken}"), broken)
        finally:
            world.close()
        return Outcome(tuple(world.history), None)


@contextlib.contextmanager
def _quiet(seed: int) -> Generator[None]:
    """Ids that follow from the seed; nobody logs, and what is left of dead processes is silent."""
    silent = structlog.make_filtering_bound_logger(50)
    config = structlog.get_config() if structlog.is_configured() else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("controller.store.identity.os.urandom", Random(seed).randbytes)
        patch.setattr("controller.store.identity._last", (-1, 0))
        patch.setattr("importlib.metadata.entry_points", lambda **_: ())  # to look takes 50 ms
        patch.setattr(sys, "unraisablehook", lambda _: None)
        structlog.configure(wrapper_class=silent)
        try:
            yield
        finally:
            if config is None:
                structlog.reset_defaults()  # whoever says something first configures it
            else:
                structlog.configure(**config)


class _World:
    def __init__(self, scenario: Scenario, path: Path, look: Look | None) -> None:
        self.history: list[str] = []
        self._scenario = scenario
        self._path = path
        self._look = look
        self._chance = Random(f"order {scenario.seed}")
        self._elapsed = 0.0
        self._counts = {"step": 0, "commit": 0, "read": 0, "life": 0}
        self._faults = {(_counted(each.kind), each.at): each for each in scenario.faults}
        self._machines: dict[int, Machine] = {}
        self._dead: list[Machine] = []
        self._predecessors: dict[int, str] = {}
        self._skews = [0.0] * scenario.controllers
        self._arranged: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._slow = 0.0
        self._ahead = Random(f"ahead {scenario.seed}").choice(AHEAD)
        self._defined = 0
        self.witness = Witness(path, self.say, lambda: self._elapsed)

    def say(self, line: str) -> None:
        """Add a line to the history."""
        self.history.append(f"{self._elapsed:10.3f}  {line}")

    # -- time -------------------------------------------------------------------------------

    def run(self) -> None:
        """From the beginning until everything has ended."""
        for place in range(self._scenario.controllers):
            self._start(place)
        self._at(0.0, self._define)
        for wish in self._scenario.wishes:
            self._at(wish.at, functools.partial(self._wish, wish))
        for fault in self._scenario.faults:
            if fault.kind == "jump":
                self._at(fault.at, functools.partial(self._jump, fault))
        self._at(BUSY + 1, self._calm)
        while not self._over():
            self._go_on()
        self._show()
        self.witness.finish()

    def _show(self) -> None:
        if self._look is not None:
            skew = max(self._skews)
            self._look(
                self._path, START + round((self._elapsed + skew) * 1000), bool(self._machines)
            )

    def _over(self) -> bool:
        if self._elapsed <= BUSY + 2:
            return False
        if self.witness.all_ended():
            return True
        if self._elapsed > LAST or self._counts["step"] > MOST_STEPS:
            raise Violation("ends", f"not ended: {self.witness.unfinished()}")
        return False

    def _go_on(self) -> None:
        ready = [place for place, each in self._machines.items() if self._can_go(each)]
        if ready:
            place = self._chance.choice(ready)
            self._step(place)
            return
        due = [each[0] for each in self._arranged]
        for machine in self._machines.values():
            soonest = self._elapsed if machine.loop.is_ready() else machine.loop.next_due()
            if soonest is not None:
                due.append(max(soonest, machine.asleep_until))
        self._elapsed = max(self._elapsed, min(due, default=LAST + 1))
        while self._arranged and min(self._arranged)[0] <= self._elapsed:
            first = min(self._arranged)
            self._arranged.remove(first)
            first[2]()

    def _can_go(self, machine: Machine) -> bool:
        return machine.asleep_until <= self._elapsed and machine.loop.is_ready()

    def _at(self, when: float, call: Callable[[], None]) -> None:
        self._arranged.append((when, next(self._order), call))

    # -- processes --------------------------------------------------------------------------

    def _start(self, place: int) -> None:
        self._counts["life"] += 1
        name = f"c{place}.{self._counts['life']}"
        loop = Loop(lambda: self._elapsed, self._chance, self._idle)
        outside = Outside(
            self._scenario.seed,
            lambda call, url, beside: self.witness.performed(name, call, url, beside=beside),
        )
        alone = self._scenario.controllers == 1
        with loop.running():
            disk = Disk(
                self._path,
                loop,
                on_commit=self._commit,
                on_read=self._read,
                committed=lambda: self.witness.committed(name),
                delay=self._delay,
            )
            machine = Machine(
                name, loop, disk, outside, alone=alone, ahead=self._ahead, say=self.say
            )
        machine.clock.skew = self._skews[place]
        self._machines[place] = machine
        self.say(f"{name} starts")
        machine.start(self._predecessors.get(place))
        self._predecessors[place] = name

    def _step(self, place: int) -> None:
        machine = self._machines[place]
        fault = self._fault("step")
        if fault is not None and fault.kind == "crash":
            self._crash(place, fault.size)
            return
        if fault is not None and fault.kind == "stop":
            self.say(f"{machine.name} is asked to stop")
            machine.stop(fault.size, functools.partial(self._stopped, place, machine))
        elif fault is not None:
            self.say(f"{machine.name} is stopped for {fault.size} s")
            machine.asleep_until = self._elapsed + fault.size
            return
        machine.loop.step()
        if self.witness.broken is not None:
            raise self.witness.broken
        if machine.disk.crashed:
            self._crash(place, RESTART)
            return
        machine.disk.turn()
        if machine.loop.faults:
            raise Violation("no bugs", f"{machine.name}: {machine.loop.faults[0]}")

    def _crash(self, place: int, seconds: float) -> None:
        machine = self._machines.pop(place)
        self.say(f"{machine.name} is gone")
        self._dead.append(machine)
        self._show()
        self._at(self._elapsed + seconds, functools.partial(self._start, place))

    def _stopped(self, place: int, machine: Machine) -> None:
        if self._machines.get(place) is machine:
            self._crash(place, RESTART)

    def close(self) -> None:
        """Let go of everything."""
        for machine in (*self._dead, *self._machines.values()):
            machine.loop.end()
            machine.disk.close()
        self.witness.close()

    # -- what goes wrong --------------------------------------------------------------------

    def _fault(self, counted: str) -> Fault | None:
        self._counts[counted] += 1
        if self._elapsed > BUSY:
            return None
        return self._faults.get((counted, self._counts[counted]))

    def _commit(self) -> str:
        fault = self._fault("commit")
        if fault is None or fault.kind == "slow":
            self._slow = fault.size if fault is not None else 0.0
            return "done"
        self.say(f"commit {self._counts['commit']}: {fault.kind}")
        return fault.kind

    def _idle(self, moment: float) -> None:
        """Everybody waits with who waits in a transaction: others can neither write nor know."""
        self._elapsed = max(self._elapsed, moment)

    def _read(self) -> bool:
        return self._fault("read") is not None

    def _delay(self) -> float:
        slow, self._slow = self._slow, 0.0
        return slow or self._chance.choice((0, 0.001, 0.001, 0.02))

    def _jump(self, fault: Fault) -> None:
        place = self._chance.randrange(len(self._skews))
        self._skews[place] = fault.size
        if place in self._machines:
            self._machines[place].clock.skew = fault.size
        self.say(f"the clock of c{place} is {fault.size:g} s ahead")

    # -- what people want -------------------------------------------------------------------

    def _asked(self) -> Machine | None:
        awake = [each for each in self._machines.values() if each.asleep_until <= self._elapsed]
        return self._chance.choice(awake) if awake else None

    def _define(self) -> None:
        """Create the workflows one after another, then change what is defined again."""
        if self._defined >= len(self._scenario.definitions):
            return
        document = self._scenario.definitions[self._defined]
        machine = self._asked()
        if machine is None:
            self._at(self._elapsed + 1, self._define)
            return
        known = [each["name"] for each in self._scenario.definitions[: self._defined]]
        self._defined += 1
        name, text = document["name"], json.dumps(document)
        service = machine.app.service
        if name in known:
            call = functools.partial(service.update_workflow, name, text)
        else:
            call = functools.partial(service.create_workflow, text)
        machine.ask(f"define {name}", call, lambda _: None)
        following = self._defined + 1 < len(self._scenario.definitions)
        self._at(self._elapsed + (0.1 if following or self._defined == 1 else 8.0), self._define)

    def _wish(self, wish: Wish) -> None:
        machine = self._asked()
        if machine is None:
            return
        service = machine.app.service
        if wish.kind == "execute":
            name = ("parent", "parent", "child")[wish.which % 3]
            ask = functools.partial(service.execute_workflow, name, {"n": wish.which % 7})
            machine.ask(f"execute {name}", ask, self.witness.acknowledged)
            return
        retry = wish.kind == "retry"
        ids = self.witness.failed() if retry else self.witness.unfinished()
        if not ids:
            return
        if retry:
            ask = functools.partial(service.retry_execution, ids[wish.which % len(ids)])
            machine.ask(f"retry {ids[wish.which % len(ids)]}", ask, self.witness.acknowledged)
            return
        chosen = ids[wish.which % len(ids)]
        asks = {
            "cancel": functools.partial(service.cancel_execution, chosen),
            "kill": functools.partial(service.cancel_execution, chosen, force=True),
            "pause": functools.partial(service.pause_execution, chosen),
            "resume": functools.partial(service.resume_execution, chosen),
            "signal": functools.partial(service.send_signal, chosen, "go", wish.which),
        }
        machine.ask(f"{wish.kind} {chosen}", asks[wish.kind], lambda _: None)

    def _calm(self) -> None:
        """Nothing goes wrong any more, and nobody leaves anything paused."""
        machine = self._asked()
        if machine is not None:
            for each in self.witness.unfinished():
                again = functools.partial(machine.app.service.resume_execution, each)
                machine.ask(f"resume {each}", again, lambda _: None)
        if self._elapsed < LAST:
            self._at(self._elapsed + 20, self._calm)


def _counted(kind: str) -> str:
    match kind:
        case "crash" | "stop" | "stall":
            return "step"
        case "unread":
            return "read"
        case "jump":
            return "second"
        case _:
            return "commit"
