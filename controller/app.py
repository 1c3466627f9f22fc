"""The composition root: settings → wired parts.

    store → catalog → gate → service                   every command has these
    actions, author, sources, worker, reconciler       made, and imported, for whoever needs them

A command that waits for an execution becomes its controller for as long as no daemon is one.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from controller.clock import Clock, SystemClock
from controller.core.problem import NotFound, Unavailable
from controller.execute.secrets import Secrets
from controller.facts import Bus
from controller.given import child_environment, git_environment
from controller.location import open_store
from controller.logs import get_log
from controller.lookup import Lookup
from controller.settings import Settings, load_settings
from controller.source.spec import SourceSpec
from controller.store import Store, ledger
from controller.store.identity import new_id
from controller.store.lock import ControllerLock, Holder
from controller.store.wake import ring
from controller.tenure import Tenure

if TYPE_CHECKING:
    from controller.admission import Gate
    from controller.authoring import Author
    from controller.catalog import Catalog
    from controller.execute.action import BuiltIn, Registry
    from controller.execute.perform import Performer
    from controller.execute.scripts import Scripts
    from controller.execute.worker import Worker
    from controller.history import ExecutionView
    from controller.reconcile import Crew, Reconciler
    from controller.service import WorkflowService
    from controller.source.diagnostic import Diagnostic
    from controller.source.origin import Origin
    from controller.sources import SourceService

    Viewer = Callable[[ExecutionView], None]  # called with each new look

T = TypeVar("T")

SETTLED = ("completed", "failed", "cancelled", "paused")
"""Statuses in which an execution goes no further by itself."""

LOOK = 0.1
"""Seconds between looks at an execution that somebody else executes."""

QUICK = 0.02
"""Seconds between looks where nobody is shown anything."""

MOST_PROCESSES = 8
"""Processes that read definitions at once; more wait for the one that writes them."""

log = get_log("windlass")


class App:
    """The parts every command has. Made by `open_app`."""

    def __init__(
        self, settings: Settings, store: Store, clock: Clock, crew: "Crew | None" = None
    ) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.crew = crew
        self.bus = Bus()
        self._ringers: list[Callable[[], None]] = []
        self.scratch = (settings.scratch_dir or settings.state_dir / "scratch").absolute()
        self.secrets = Secrets(settings.secrets_dir)
        self.lookup = Lookup(store)
        self.specs = {each.name: each for each in settings.specs}
        self.owner = f"{os.uname().nodename}:{os.getpid()}:{new_id(clock.now())[-8:]}"

    @cached_property
    def catalog(self) -> "Catalog":
        """Recorded definitions."""
        from controller.catalog import Catalog  # ruff: ignore[import-outside-top-level]  # start-up time

        return Catalog(self.store, lambda: self.registry.signatures)

    @cached_property
    def gate(self) -> "Gate":
        """What lets executions be created."""
        from controller.admission import Gate  # ruff: ignore[import-outside-top-level]  # start-up time

        return Gate(self.store, self.catalog, self.settings.policy)

    @cached_property
    def service(self) -> "WorkflowService":
        """What may be asked for."""
        from controller.service import WorkflowService  # ruff: ignore[import-outside-top-level]  # start-up time

        return WorkflowService(
            store=self.store,
            clock=self.clock,
            bus=self.bus,
            catalog=self.catalog,
            gate=self.gate,
            secrets=self.secrets,
            author=lambda: self.author,
            ring=self.ring,
        )

    @cached_property
    def _scripts(self) -> "Scripts":
        from controller.execute.sandbox import Sandboxer  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.execute.scripts import Scripts  # ruff: ignore[import-outside-top-level]  # start-up time

        secrets = self.settings.secrets_dir
        sandboxer = Sandboxer(self.settings.sandbox, [] if secrets is None else [secrets])
        return Scripts(self.scratch, child_environment(), sandboxer, self.settings.kill_grace)

    @cached_property
    def registry(self) -> "Registry":
        """The actions there are."""
        from controller.execute.action import Registry  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.execute.actions.loading import build  # ruff: ignore[import-outside-top-level]  # start-up time

        return Registry(lambda name: build(name, self._scripts))

    @cached_property
    def performer(self) -> "Performer":
        """What performs them."""
        from controller.execute.perform import Performer  # ruff: ignore[import-outside-top-level]  # start-up time

        return Performer(self.registry, self._scripts)

    @cached_property
    def author(self) -> "Author":
        """What reads definitions that people bring."""
        from controller.authoring import Author  # ruff: ignore[import-outside-top-level]  # start-up time

        settings = self.settings
        return Author(self.store, self.catalog.built_in, settings.policy, settings.limits)

    @cached_property
    def sources(self) -> "SourceService":
        """What may be asked of sources."""
        from controller.planning import Planner  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.sources import SourceService  # ruff: ignore[import-outside-top-level]  # start-up time

        settings = self.settings
        return SourceService(
            store=self.store,
            clock=self.clock,
            specs=self.specs,
            planner=Planner(
                self.store, self.catalog.built_in, settings.policy, settings.limits, self.origin
            ),
            ring=self.ring,
            homes=self.homes,
            at_work=self.at_work,
        )

    async def close(self) -> None:
        """Give back what actions hold, where any was called."""
        if "performer" in vars(self):
            await self.performer.close()

    def ring(self) -> None:
        """Something was recorded: tell whoever executes and schedules, here or elsewhere."""
        for ringer in self._ringers:
            ringer()
        if self.store.path is None:
            self.store.post(ledger.announce)
        elif not self._ringers:
            ring(self.settings.state_dir)

    def on_ring(self, listener: Callable[[], None]) -> None:
        """Look again when something is recorded in this process."""
        self._ringers.append(listener)

    def worker(self, root: str | None = None) -> "Worker":
        """A worker for all executions, or for one tree of them."""
        from controller.execute.worker import Worker  # ruff: ignore[import-outside-top-level]  # start-up time

        return Worker(
            store=self.store,
            clock=self.clock,
            bus=self.bus,
            catalog=self.catalog,
            gate=self.gate,
            performer=self.performer,
            secrets=self.secrets,
            owner=self.owner,
            limit=self.settings.max_concurrent_workflows,
            slots=self.settings.max_processes,
            heartbeat=self.settings.checkpoint_interval,
            root=root,
        )

    @property
    def homes(self) -> Path:
        """Where each repository that is followed has a directory for its mirror."""
        return self.settings.state_dir.absolute() / "sources"

    def origin(self, spec: SourceSpec) -> "Origin":
        """Where a source is looked at; its mirror is kept in the state directory."""
        from controller.source.origin import origin_of  # ruff: ignore[import-outside-top-level]  # start-up time

        return origin_of(
            spec, self.homes / spec.name, git_environment(), self.settings.max_file_bytes
        )

    def tenure(self, name: str) -> Tenure | None:
        """What only one controller does at a time; None where there is only one."""
        if self.store.path is not None:
            return None
        beat = self.settings.checkpoint_interval
        return Tenure(self.store, self.clock, name=name, owner=self.owner, heartbeat=beat)

    def reconciler(
        self, spec: SourceSpec, applied: Callable[[], None], tenure: Tenure | None = None
    ) -> "Reconciler":
        """What keeps one source, if other controllers leave it to this one."""
        from controller.reconcile import Reconciler  # ruff: ignore[import-outside-top-level]  # start-up time

        return Reconciler(
            spec=spec,
            origin=self.origin(spec),
            store=self.store,
            clock=self.clock,
            bus=self.bus,
            built_in=self.catalog.built_in,
            policy=self.settings.policy,
            limits=self.settings.limits,
            interval=self.settings.resync_interval,
            applied=applied,
            crew=self.crew,
            tenure=tenure,
        )

    def lock(self, role: str) -> ControllerLock:
        """The right to execute here: of the database, or where many may, of the state directory."""
        return ControllerLock(self.store.path or self.settings.state_dir, role, self.owner)

    async def at_work(self) -> Holder | None:
        """Who executes, or keeps others from it: of this machine, or elsewhere on this database."""
        holder = self.lock("command").holder()
        if holder is not None or self.store.path is not None:
            return holder
        elsewhere = await self.store.read(ledger.leases_of, "controller", self.clock.now())
        return next((Holder(0, "controller", 0, owner) for owner in elsewhere.values()), None)

    async def attend(
        self,
        execution_id: str,
        on_view: "Viewer | None" = None,
        *,
        until: Collection[str] = SETTLED,
        every: float = LOOK,
    ) -> "ExecutionView":
        """Wait until an execution goes no further by itself.

        Where no controller is at work this process is one, for this execution's tree only, so
        that a command alone on a machine does what a daemon would.

        Args:
            execution_id: The execution.
            on_view: Called with each new look at it.
            until: The statuses that are waited for.
            every: Seconds between looks.
        """
        lock = self.lock("execute")
        record = await self.service.get_execution(execution_id)
        try:
            while True:
                if await self.at_work() is None and lock.try_acquire(self.clock.now()):
                    async with self._working(record.root_id, lock):
                        return await self._watch(record.id, on_view, until, every)
                view = await self._look(record.id, on_view)
                if view.record.status in until:
                    return view
                await self.clock.sleep(every)
        finally:
            lock.release()

    async def _watch(
        self,
        execution_id: str,
        on_view: "Viewer | None",
        until: Collection[str],
        every: float,
    ) -> "ExecutionView":
        """Look until the execution, which this process executes, has one of the statuses."""
        while True:
            view = await self._look(execution_id, on_view)
            if view.record.status in until:
                return view
            await self.clock.sleep(min(every, QUICK) if on_view is None else every)

    @asynccontextmanager
    async def _working(self, root: str, lock: ControllerLock) -> AsyncGenerator[None]:
        """A worker for one tree, for as long as the block lasts."""
        from controller.execute.taking import take_over  # ruff: ignore[import-outside-top-level]  # start-up time

        await self.prepare(lock)
        await take_over(self.store, self.owner)
        worker = self.worker(root)
        self._ringers.append(worker.wake)
        try:
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(worker.run())
                try:
                    yield
                finally:
                    await asyncio.shield(worker.stop(self.settings.stop_grace))
                    await working
        finally:
            self._ringers.remove(worker.wake)

    async def _look(self, execution_id: str, on_view: "Viewer | None") -> "ExecutionView":
        view = await self.service.get_workflow_status(execution_id)
        if on_view is not None:
            on_view(view)
        return view

    async def prepare(self, lock: ControllerLock) -> int:
        """Before executing: what was left running ends; how many executions go on, at first."""
        from controller.execute.scratch import end_orphans  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.execute.taking import take_over  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.execute.worker import FIRST  # ruff: ignore[import-outside-top-level]  # start-up time

        if orphans := await asyncio.to_thread(end_orphans, self.scratch):
            log.warning("ended processes of an earlier controller", count=orphans)
        if self.store.path is None and lock.predecessor is not None:
            return await self.store.write(ledger.release, lock.predecessor.owner)
        return await take_over(self.store, self.owner, FIRST)


@asynccontextmanager
async def open_app(
    settings: Settings | None = None, crew: "Crew | None" = None
) -> AsyncGenerator[App]:
    """Open the database and wire what every command has.

    Args:
        settings: None: read from the environment and the file.
        crew: Processes that help with thousands of files.

    Raises:
        Refused: The state directory or the database cannot be used.
        Unavailable: The database does not answer.
    """
    chosen = settings if settings is not None else load_settings()
    clock = SystemClock()
    async with open_store(chosen.location, clock) as store:
        app = App(chosen, store, clock, crew)
        try:
            yield app
        finally:
            with suppress(Unavailable):
                await app.close()


def lint_directory(directory: Path, settings: Settings) -> "list[Diagnostic]":
    """Everything wrong with the files of a directory, without a database; raises `NotFound`."""
    if not directory.is_dir():
        raise NotFound(f"there is no directory {directory}", hint="name it with --root")
    from controller.authoring import check_directory  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.execute.action import Registry  # ruff: ignore[import-outside-top-level]  # start-up time

    built_in = Registry(_unused).signatures
    now = SystemClock().now()
    return check_directory(directory, built_in, settings.policy, settings.limits, now).diagnostics


def _unused(name: str) -> "BuiltIn":
    raise LookupError(name)  # what calls no action needs only signatures


def crew_of_this_machine() -> "Crew":
    """One process for each core but this one's."""
    from controller.reconcile import Crew  # ruff: ignore[import-outside-top-level]  # start-up time

    return Crew(min(os.cpu_count() or 1, MOST_PROCESSES) - 1)


def run_main(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of uvloop's."""
    import uvloop  # ruff: ignore[import-outside-top-level]  # start-up time

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
