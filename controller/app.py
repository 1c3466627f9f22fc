"""The composition root: settings → wired parts, started in order and unwound in reverse.

    store → actions → catalog → gate → service       every command has these
    lock → worker, scheduler, reconciler, HTTP       the daemon has these too

A command that waits for an execution becomes its controller for as long as no daemon is one.
"""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog

from controller import __version__
from controller.admission import Gate
from controller.authoring import Author
from controller.catalog import Catalog
from controller.clock import Clock, SystemClock
from controller.core.problem import Refused, Unavailable
from controller.execute.action import Registry
from controller.execute.actions.loading import build
from controller.execute.perform import Performer
from controller.execute.sandbox import Sandboxer
from controller.execute.scratch import end_orphans
from controller.execute.scripts import Scripts
from controller.execute.secrets import Secrets
from controller.execute.worker import Worker
from controller.facts import Bus
from controller.history import ExecutionView
from controller.reconcile import Reconciler
from controller.schedule import Leftovers, Scheduler
from controller.service import WorkflowService
from controller.settings import Settings, child_environment, load_settings
from controller.source.watch import Watch
from controller.store import Store, ledger
from controller.store.identity import new_id
from controller.store.lock import ControllerLock
from controller.store.records import Keep
from controller.store.wake import Doorbell, ring

T = TypeVar("T")

SETTLED = ("completed", "failed", "cancelled", "paused")
"""Statuses in which an execution goes no further by itself."""

LOOK = 0.1
"""Seconds between looks at an execution that somebody else executes."""

QUICK = 0.02
"""Seconds between looks where nobody is shown anything."""

COLLECT = (50_000, 20, 50)
"""Thresholds of the garbage collector: thousands of definitions are many objects that stay, and
looking at all of them for every few hundred new ones took half of a cold start."""

BEAT = 20.0
"""Seconds between signs of life for the service manager."""

log = structlog.get_logger("windlass")


class App:
    """The parts every command has. Made by `open_app`."""

    def __init__(self, settings: Settings, store: Store, clock: Clock) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.bus = Bus()
        self._ringers: list[Callable[[], None]] = []
        scripts = Scripts(
            settings.state_dir.absolute() / "scratch",
            child_environment(),
            Sandboxer(settings.sandbox, _hidden(settings)),
            settings.kill_grace,
        )
        self.scratch = scripts.scratch
        self.registry = Registry(lambda name: build(name, scripts))
        self.performer = Performer(self.registry, scripts)
        self.secrets = Secrets(settings.secrets_dir)
        self.catalog = Catalog(store, self.registry.signatures)
        self.gate = Gate(store, self.catalog, settings.policy)
        self.service = WorkflowService(
            store=store,
            clock=clock,
            bus=self.bus,
            catalog=self.catalog,
            gate=self.gate,
            secrets=self.secrets,
            author=Author(store, self.catalog.built_in, settings.policy, settings.limits),
            ring=self.ring,
        )
        self.owner = f"{os.uname().nodename}:{os.getpid()}:{new_id(clock.now())[-8:]}"

    def ring(self) -> None:
        """Something was recorded: tell whoever executes and schedules, here or elsewhere."""
        for ringer in self._ringers:
            ringer()
        if not self._ringers:
            ring(self.settings.state_dir)

    def worker(self, root: str | None = None) -> Worker:
        """A worker for all executions, or for one tree of them."""
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

    def lock(self, role: str) -> ControllerLock | None:
        """The right to execute; None where any number may (PostgreSQL)."""
        return ControllerLock(self.store.path, role) if self.store.path is not None else None

    # -- one execution ----------------------------------------------------------------------

    async def attend(
        self,
        execution_id: str,
        on_view: Callable[[ExecutionView], None] | None = None,
        *,
        until: Collection[str] = SETTLED,
        every: float = LOOK,
    ) -> ExecutionView:
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
                held = lock is not None and lock.try_acquire(self.clock.now())
                if held or lock is None:
                    async with self._working(record.root_id):
                        return await self._watch(record.id, on_view, until, every)
                view = await self._look(record.id, on_view)
                if view.record.status in until:
                    return view
                await self.clock.sleep(every)
        finally:
            if lock is not None:
                lock.release()

    async def _watch(
        self,
        execution_id: str,
        on_view: Callable[[ExecutionView], None] | None,
        until: Collection[str],
        every: float,
    ) -> ExecutionView:
        """Look until the execution, which this process executes, has one of the statuses."""
        while True:
            view = await self._look(execution_id, on_view)
            if view.record.status in until:
                return view
            await self.clock.sleep(min(every, QUICK) if on_view is None else every)

    @asynccontextmanager
    async def _working(self, root: str) -> AsyncGenerator[None]:
        """A worker for one tree, for as long as the block lasts."""
        await self.prepare()
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

    async def _look(
        self, execution_id: str, on_view: Callable[[ExecutionView], None] | None
    ) -> ExecutionView:
        view = await self.service.get_workflow_status(execution_id)
        if on_view is not None:
            on_view(view)
        return view

    async def prepare(self) -> None:
        """Before executing: what an earlier controller left running ends, what it owned is free."""
        orphans = await asyncio.to_thread(end_orphans, self.scratch)
        if orphans:
            log.warning("ended processes of an earlier controller", count=orphans)
        if self.store.path is not None:
            freed = await self.store.write(ledger.adopt, self.owner)
            if freed:
                log.info("executions of an earlier controller go on", count=freed)

    # -- the daemon -------------------------------------------------------------------------

    async def serve(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Be the controller until SIGTERM or SIGINT; running steps get a grace then.

        Raises:
            Refused: Another controller is at work, the port is taken, the source is not there.
            Unavailable: The database does not answer.
        """
        await _Daemon(self).run(on_ready)


class _Daemon:
    """A controller: its loops, and the order in which they begin and end."""

    def __init__(self, app: App) -> None:
        from controller.observe.health import Health, notify_socket  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.observe.metrics import Metrics  # ruff: ignore[import-outside-top-level]  # start-up time

        self.app = app
        self.settings = app.settings
        self.stop = asyncio.Event()
        self.health = Health(app.clock, notify_socket())
        self.worker = app.worker()
        self.scheduler = Scheduler(
            store=app.store,
            clock=app.clock,
            bus=app.bus,
            gate=app.gate,
            wake=self.worker.wake,
            keep=Keep(self.settings.retention_days, self.settings.retention_keep_last),
            leftovers=Leftovers(
                logs=self.settings.retention_log_days,
                audits=self.settings.retention_audit_days,
                unused=self.settings.retention_unused_days,
            ),
        )
        self.reconciler = Reconciler(
            root=Path(self.settings.source),
            store=app.store,
            clock=app.clock,
            bus=app.bus,
            built_in=app.catalog.built_in,
            policy=self.settings.policy,
            limits=self.settings.limits,
            resync=self.settings.resync_interval,
            applied=self.scheduler.look_again,
        )
        self.metrics = Metrics(__version__, self._levels)

    async def run(self, on_ready: Callable[[str], None] | None) -> None:
        """Start in order, wait, unwind in reverse."""
        from controller.observe.metrics import CONTENT_TYPE  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.web.server import bind, server  # ruff: ignore[import-outside-top-level]  # start-up time

        app = self.app
        async with AsyncExitStack() as stack:
            lock = app.lock("controller")
            if lock is not None:
                stack.enter_context(lock.acquire(app.clock.now()))
            listening = bind(self.settings.http_address)
            stack.callback(listening.close)
            await app.prepare()
            stack.callback(app.bus.subscribe(self.metrics.observe))
            stack.enter_context(Doorbell(self.settings.state_dir, self._rang))
            app._ringers.append(self._rang)  # ruff: ignore[private-member-access]  # the app is ours
            web = server(
                metrics=self.metrics.render,
                content_type=CONTENT_TYPE,
                report=self.health.report,
                ready=lambda: self.health.ready,
                hook=app.service.receive_webhook,
            )
            _on_signals(self._stop_asked)
            async with asyncio.TaskGroup() as tasks:
                loops = self._loops(tasks)
                http = tasks.create_task(web.serve(sockets=[listening]))
                if await self._first_look():
                    self._say_ready(on_ready)
                    await self.stop.wait()
                await self._wind_down(loops)
                web.leave()
                await http
            await app.performer.close()

    async def _first_look(self) -> bool:
        """Wait until the source was looked at; False: told to stop before."""
        looked = asyncio.ensure_future(self.reconciler.first.wait())
        stopped = asyncio.ensure_future(self.stop.wait())
        await asyncio.wait({looked, stopped}, return_when=asyncio.FIRST_COMPLETED)
        looked.cancel()
        stopped.cancel()
        return not self.stop.is_set()

    def _say_ready(self, on_ready: Callable[[str], None] | None) -> None:
        self.health.started()
        log.info(
            "ready",
            version=__version__,
            http=self.settings.http_address,
            source=str(self.settings.source),
            database=self.app.store.where,
        )
        if on_ready is not None:
            on_ready(self.settings.http_address)

    def _loops(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        watch = Watch(Path(self.settings.source), self.reconciler.look_again)
        self._watch = watch
        parts: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "worker": self.worker.run,
            "scheduler": self.scheduler.run,
            "reconciler": lambda: self.reconciler.run(watch.check),
            "heart": self._beat,
        }
        return [tasks.create_task(self._supervise(name, part)) for name, part in parts.items()]

    async def _wind_down(self, loops: list[asyncio.Task[None]]) -> None:
        """No new work, a grace for what runs, everything released."""
        self.health.stopping()
        log.info("stopping", busy=self.worker.busy)
        self.scheduler.stop()
        self.reconciler.stop()
        self._watch.close()
        await self.worker.stop(self.settings.stop_grace)
        loops[-1].cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        log.info("stopped")

    async def _supervise(self, name: str, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop; a bug in it is told, and the loop begins again."""
        pause = 1.0
        while True:
            try:
                await part()
            except Exception:
                if self.stop.is_set():
                    return
                log.exception("a loop failed and begins again", loop=name)
                self.health.failed(name, "failed; it begins again")
                await self.app.clock.sleep(pause)
                pause = min(pause * 2, 60.0)
                self.health.well(name)
            else:
                return

    async def _beat(self) -> None:
        while True:
            self.health.beat()
            await self.app.clock.sleep(BEAT)

    def _rang(self) -> None:
        self.worker.wake()
        self.scheduler.look_again()

    def _stop_asked(self) -> None:
        self.stop.set()

    def _levels(self) -> dict[str, float]:
        store = self.app.store
        return {
            "executions_in_memory": self.worker.in_memory,
            "executions_busy": self.worker.busy,
            "store_queue": store.waiting,
            "store_last_commit_seconds": store.last_commit_seconds,
            "store_commits": store.commits,
            "store_rows": store.rows,
        }


def _hidden(settings: Settings) -> list[Path]:
    """What nobody in a sandbox is to see."""
    return [settings.secrets_dir] if settings.secrets_dir is not None else []


def _on_signals(callback: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, callback)


@asynccontextmanager
async def open_app(settings: Settings | None = None) -> AsyncGenerator[App]:
    """Open the database and wire what every command has.

    Args:
        settings: None: read from the environment and the file.

    Raises:
        Refused: The state directory or the database cannot be used.
        Unavailable: The database does not answer.
    """
    chosen = settings if settings is not None else load_settings()
    try:
        chosen.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"cannot make the state directory {chosen.state_dir}: {error.strerror}",
            reason="state-dir",
            hint="choose another one with --state-dir",
        ) from None
    clock = SystemClock()
    async with Store.open(chosen.url, monotonic=clock.monotonic) as store:
        app = App(chosen, store, clock)
        try:
            yield app
        finally:
            with suppress(Unavailable):
                await app.performer.close()


def run_main(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of uvloop's."""
    import uvloop  # ruff: ignore[import-outside-top-level]  # start-up time

    gc.set_threshold(*COLLECT)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
