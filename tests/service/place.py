"""A directory of definitions and a database, with the parts a daemon has and none of its loops."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from controller.app import App
from controller.reconcile import Outcome, Reconciler
from controller.settings import Settings
from controller.store import Store
from tests.fake_clock import FakeClock

FLOW = "name: {name}\ndescription: {text}\nsteps:\n  - {{id: a, type: action, action: {action}}}\n"
ACTION = "kind: action\nname: {name}\nrun:\n  shell: echo {text}\n"


def flow(name: str, text: str = "x", action: str = "set") -> str:
    """A workflow of one step."""
    return FLOW.format(name=name, text=text, action=action)


class Place:
    """One source, named `definitions`, and a database."""

    def __init__(self, app: App, clock: FakeClock, root: Path) -> None:
        self.app = app
        self.root = root
        self.clock = clock

    def write(self, path: str, text: str) -> None:
        """Write a file, a moment later than the last one."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def reconciler(self, name: str = "definitions") -> Reconciler:
        """That of a daemon that has just started."""
        return self.app.reconciler(self.app.specs[name], lambda: None)

    async def reconcile(self, name: str = "definitions") -> Outcome:
        """Look once, as a daemon that has just started does."""
        reconciler = self.reconciler(name)
        try:
            return await reconciler.reconcile()
        finally:
            reconciler.stop()

    async def names(self) -> list[str]:
        """Workflows that are not archived."""
        return [each.name for each in await self.app.service.list_workflows()]


@asynccontextmanager
async def opened(
    folder: Path, clock: FakeClock, *sources: dict[str, Any], **more: Any
) -> AsyncGenerator[Place]:
    """A place of the test's own; without sources, the directory `definitions` is the one."""
    root = folder / "definitions"
    root.mkdir(exist_ok=True, parents=True)
    given: dict[str, Any] = {"sources": sources} if sources else {"source": str(root)}
    settings = Settings(state_dir=folder / "state", **given, **more)
    settings.state_dir.mkdir(exist_ok=True)
    async with Store.open(settings.url, monotonic=clock.monotonic) as store:
        yield Place(App(settings, store, clock), clock, root)
