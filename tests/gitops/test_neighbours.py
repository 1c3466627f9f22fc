"""What one source brings, changes or takes away is noticed by the others at once."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from controller.app import App
from controller.facts import Fact, FactType
from controller.reconcile import Reconciler, Wishes, mark_removed
from controller.settings import Settings
from tests.crash.daemon import Daemon
from tests.eventually import eventually, wait_until
from tests.fake_clock import FakeClock
from tests.service.place import Place, flow, opened

PARENT = "name: parent\nsteps:\n  - {id: a, type: subflow, subflow: child, inputs: {day: today}}\n"
CHILD = flow("child") + "inputs:\n  - {name: day, type: string}\n"


class Neighbours:
    """Two directories that are sources, and their loops; the clock stands still."""

    def __init__(self, place: Place, folder: Path, tasks: asyncio.TaskGroup) -> None:
        self.place = place
        self.phases: dict[str, str] = {}
        self.looks = 0
        self._folder = folder
        self._tasks = tasks
        self._reconcilers: dict[str, Reconciler] = {
            name: place.app.reconciler(spec, self._applied)
            for name, spec in place.app.specs.items()
        }
        self.wishes = Wishes(place.app.store, self._reconcilers.values())
        place.app.bus.subscribe(self._heard)

    def _applied(self) -> None:
        self.wishes.look_again()

    def _heard(self, fact: Fact) -> None:
        if fact.type is FactType.RECONCILED:
            self.phases[fact.data["source"]] = fact.data["phase"]

    def write(self, path: str, text: str) -> None:
        """Write a file of one of them."""
        (self._folder / path).write_text(text)

    async def begin(self, name: str) -> None:
        """Start the loop of one, and wait for its first look."""
        self._tasks.create_task(self._reconcilers[name].run())
        await self._reconcilers[name].first.wait()

    def listen(self) -> None:
        """Start what reads wishes."""
        self._tasks.create_task(self.wishes.run())

    async def become(self, name: str, phase: str) -> None:
        """Wait until one of them is said to be so."""
        await eventually(lambda: self.phases.get(name) == phase, f"{name} is {phase}")

    def stop(self) -> None:
        """End the loops."""
        self.wishes.stop()
        for each in self._reconcilers.values():
            each.stop()


@asynccontextmanager
async def _neighbours(folder: Path, clock: FakeClock) -> AsyncGenerator[Neighbours]:
    sources = [{"name": name, "directory": folder / name} for name in ("one", "two")]
    for name in ("one", "two"):
        (folder / name).mkdir()
    async with opened(folder, clock, *sources) as place, asyncio.TaskGroup() as tasks:
        await place.app.store.write(mark_removed, list(place.app.specs))
        found = Neighbours(place, folder, tasks)
        try:
            yield found
        finally:
            found.stop()


async def test_a_source_is_looked_at_when_another_brings_what_it_lacks(
    tmp_path: Path, clock: FakeClock
) -> None:
    """At a cold start too, where the one that lacks it was looked at before the other."""
    async with _neighbours(tmp_path, clock) as both:
        both.write("one/parent.yaml", PARENT)
        both.write("two/child.yaml", CHILD)
        await both.begin("one")
        await both.become("one", "degraded")
        await both.begin("two")
        both.listen()
        await both.become("one", "ready")
        for text, phase in ((CHILD.replace("day", "night"), "degraded"), (CHILD, "ready")):
            both.write("two/child.yaml", text)
            await both.become("one", phase)


async def test_a_source_is_looked_at_when_another_is_forgotten(
    tmp_path: Path, clock: FakeClock
) -> None:
    """By a command of its own, which only rings."""
    async with _neighbours(tmp_path, clock) as both:
        both.write("one/parent.yaml", PARENT)
        both.write("two/child.yaml", CHILD)
        await both.place.reconcile("two")
        both.listen()
        await both.begin("one")
        await both.become("one", "ready")
        settings = Settings(state_dir=tmp_path / "state", source=str(tmp_path / "one"))
        command = App(settings, both.place.app.store, clock)
        command.on_ring(both.wishes.look_again)
        assert await command.sources.forget("two") == 1
        await both.become("one", "degraded")


def test_the_sources_of_a_controller_are_neighbours(tmp_path: Path) -> None:
    """It looks by itself once an hour, and need not wait for that."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    sources = [{"name": name, "directory": str(tmp_path / name)} for name in ("one", "two")]
    (tmp_path / "windlass.yaml").write_text(json.dumps({"sources": sources}))
    (tmp_path / "one" / "parent.yaml").write_text(PARENT)
    with Daemon(tmp_path, extra={"WINDLASS_RESYNC_INTERVAL": "1h"}) as daemon:

        def phase() -> str:
            found: str = json.loads(daemon.get("/api/sources/one"))["source"]["phase"]
            return found

        assert phase() == "degraded"
        (tmp_path / "two" / "child.yaml").write_text(CHILD)
        wait_until(lambda: phase() == "ready", "the other has brought it")
