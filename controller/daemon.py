"""The controller: its loops, and the order in which they begin and end.

    lock → HTTP's address → orphans end → worker's loop, and when it has claimed what was left:
    the others: scheduler, one for each source; HTTP → ready

A loop that fails is told and begins again; SIGTERM, SIGHUP and SIGINT unwind everything in
reverse.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from controller import __version__
from controller.app import App
from controller.core.duration import format_duration
from controller.core.problem import NotFound, Refused
from controller.execute.patience import patiently
from controller.execute.taking import take_over
from controller.interpreter import ask_to_end, loading
from controller.logs import get_log
from controller.pruning import Leftovers, Pruner
from controller.reconcile import Wishes, mark_removed
from controller.schedule import Scheduler
from controller.source.origin import remove_homes, unused_homes
from controller.store import ledger
from controller.store.retention import Keep
from controller.store.wake import Doorbell
from controller.views import as_json
from controller.web.address import address_of, bind

if TYPE_CHECKING:
    from controller.observe.forge import Reporter
    from controller.web.server import Server

BEAT = 5.0
"""Seconds between signs of life for the service manager, and looks at whether the lock is ours."""

Loop = Callable[[], Coroutine[Any, Any, None]]

Loops = tuple[list[asyncio.Task[None]], list[asyncio.Task[None]]]
"""Loops that end when they are told to, and loops that are cancelled."""

log = get_log("windlass")


async def serve(app: App, on_ready: Callable[[str], None] | None = None) -> None:
    """Be the controller until SIGTERM, SIGHUP or SIGINT; running steps get a grace then.

    Args:
        app: Wired parts.
        on_ready: Called with the HTTP address once everything works.

    Raises:
        Refused: Another controller is at work, or has come while the lock's file was gone; or the
            port is taken.
        Unavailable: The database does not answer.
    """
    await Daemon(app).run(on_ready)


class Daemon:
    """A controller: its loops, and the order in which they begin and end."""

    def __init__(self, app: App) -> None:
        from controller.execute.scratch import unusable  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.observe.health import Health, notify_socket  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.observe.metrics import Metrics  # ruff: ignore[import-outside-top-level]  # start-up time

        self.app = app
        self.settings = app.settings
        self._stop = asyncio.Event()
        self._lock = app.lock("controller")
        self._displaced: Refused | None = None
        self.health = Health(app.clock, notify_socket())
        self.health.watch("database", lambda: app.store.unavailable)
        self._scratch_unusable = partial(unusable, app.scratch)
        self.health.watch("scratch", self._scratch_unusable)
        self.worker = app.worker()
        self.scheduler = Scheduler(
            store=app.store,
            clock=app.clock,
            bus=app.bus,
            gate=app.gate,
            executor=self.worker,
        )
        self.pruner = self._pruner()
        names = {name: f"source/{name}" for name in app.specs}
        found = {each: app.tenure(each) for each in (*names.values(), f"controller/{app.owner}")}
        self.tenures = {name: each for name, each in found.items() if each is not None}
        self.reconcilers = {
            name: app.reconciler(spec, self._applied, found[names[name]])
            for name, spec in app.specs.items()
        }
        self.wishes = Wishes(app.store, self.reconcilers.values())
        self.metrics = Metrics(__version__, self._levels)
        self.reporters = self._reporters()

    def _pruner(self) -> Pruner:
        settings = self.settings
        leftovers = Leftovers(
            logs=settings.retention_log_days,
            audits=settings.retention_audit_days,
            unused=settings.retention_unused_days,
            every=settings.retention_interval,
        )
        keep = Keep(settings.retention_days, settings.retention_keep_last)
        return Pruner(self.app.store, self.app.clock, keep, leftovers)

    def _reporters(self) -> "dict[str, Reporter]":
        """What tells forges of commits, for the sources that want it."""
        wanted = {name: spec.report for name, spec in self.app.specs.items() if spec.report}
        if not wanted:
            return {}
        from controller.observe.forge import Reporter, Target  # ruff: ignore[import-outside-top-level]  # start-up time

        return {
            name: Reporter(name, Target(**report.model_dump()), self.app.clock)
            for name, report in wanted.items()
        }

    async def run(self, on_ready: Callable[[str], None] | None) -> None:
        """Start in order, wait, unwind in reverse."""
        await self._run(on_ready)
        if self._displaced is not None:
            raise self._displaced

    async def _run(self, on_ready: Callable[[str], None] | None) -> None:
        app = self.app
        async with AsyncExitStack() as stack:
            stack.enter_context(self._lock.acquire(app.clock.now()))
            listening = bind(self.settings.http_address)
            address = address_of(listening, self.settings.http_address)
            stack.callback(listening.close)
            await self._check_scratch()
            freed = await app.prepare(self._lock)
            await app.store.write(mark_removed, list(app.specs))
            if self.tenures:  # each controller has one of its own name, which nobody else takes
                await app.store.write(ledger.forget_leases, app.clock.now())
            await asyncio.to_thread(remove_homes, app.homes, unused_homes(app.homes, app.specs))
            listeners = [self.metrics.observe, *(each.observe for each in self.reporters.values())]
            for listener in listeners:
                stack.callback(app.bus.subscribe(listener))
            stack.enter_context(Doorbell(self.settings.state_dir, self._rang))
            app.on_ring(self._rang)
            self._on_signals()
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(self._supervise("worker", self.worker.run))
                await self._unless_stopped(self.worker.first.wait())
                loops = self._loops(tasks, working, freed)
                web = await asyncio.to_thread(self._web)  # the sources are looked at meanwhile
                http = tasks.create_task(web.serve(sockets=[listening]))
                if await self._first_look():
                    self._say_ready(address, on_ready)
                    await self._stop.wait()
                await self._wind_down(loops)
                web.leave()
                await http
            await app.close()

    async def _check_scratch(self) -> None:
        """Raise `Refused` where steps could have no directory to work in."""
        if (why := await asyncio.to_thread(self._scratch_unusable, begins=True)) is not None:
            hint = "name another one in WINDLASS_SCRATCH_DIR, or make this one writable"
            raise Refused(why, reason="scratch-dir", hint=hint)

    def _web(self) -> "Server":
        from controller.observe.metrics import CONTENT_TYPE  # ruff: ignore[import-outside-top-level]  # start-up time
        from controller.web.server import Handlers, server  # ruff: ignore[import-outside-top-level]  # start-up time

        handlers = Handlers(
            metrics=self.metrics.render,
            content_type=CONTENT_TYPE,
            report=self.health.report,
            hook=self.app.service.receive_webhook,
            pushed=self._pushed,
            sources=self._shown,
        )
        return server(handlers)

    def _pushed(self, name: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
        """A forge says that somebody pushed: look, if it is who it says."""
        from controller.web.push import concerns, received  # ruff: ignore[import-outside-top-level]  # start-up time

        reconciler = self.reconcilers.get(name)
        if reconciler is None:
            raise NotFound(f"there is no source {name!r}")
        secret = reconciler.spec.webhook_secret
        push = received(headers, body, self.app.secrets.get(secret) if secret else None)
        if not concerns(push, reconciler.spec.branch):
            return {"source": name, "ignored": f"{push.ref} is not followed"}
        if reconciler.keeps:
            reconciler.look_again()
        else:  # whoever keeps it is told
            wanted = {"requested_at": self.app.clock.now()}
            self.app.store.post(ledger.put_wish, name, wanted)
            self.app.ring()
        return {"source": name, "event": push.event}

    async def _shown(self, name: str | None) -> Any:  # ruff: ignore[any-type]  # plain data
        sources = self.app.sources
        if name is None:
            return [as_json(each) for each in await sources.statuses()]
        return as_json(await sources.status(name))

    async def _first_look(self) -> bool:
        """Wait until every source was looked at; False: told to stop before."""
        with loading():
            await self._unless_stopped(self._looked())
        if self.app.crew is not None:
            self.app.crew.close()
        return not self._stop.is_set()

    async def _looked(self) -> None:
        for each in self.reconcilers.values():
            await each.first.wait()

    async def _take_over(self, freed: int) -> None:
        """The first go on; make the others free, however long the database does not answer."""
        app = self.app
        freed += await patiently(app.clock, lambda: take_over(app.store, app.owner))
        self.worker.wake()
        if freed:
            log.info("executions of an earlier controller go on", count=freed)

    def _say_ready(self, address: str, on_ready: Callable[[str], None] | None) -> None:
        self.health.started()
        log.info(
            "ready",
            version=__version__,
            http=address,
            sources=[each.location for each in self.app.specs.values()],
            database=self.app.store.where,
        )
        if on_ready is not None:
            on_ready(address)

    def _loops(self, tasks: asyncio.TaskGroup, working: asyncio.Task[None], freed: int) -> Loops:
        """Begin all but the worker's, which works."""
        parts: dict[str, Loop] = {
            "scheduler": self.scheduler.run,
            "retention": self.pruner.run,
            "wishes": self.wishes.run,
        }
        parts |= {f"lease {name}": each.run for name, each in self.tenures.items()}
        parts |= {f"source {name}": each.run for name, each in self.reconcilers.items()}
        endless = {f"report {name}": each.run for name, each in self.reporters.items()}
        endless["heart"] = self._beat
        endless["inheritance"] = partial(self._take_over, freed)
        listener = self.app.store.listener(self.app.clock.sleep, self._rang)
        if listener is not None:
            endless["listener"] = listener.run

        def begun(named: Mapping[str, Loop]) -> list[asyncio.Task[None]]:
            return [tasks.create_task(self._supervise(name, part)) for name, part in named.items()]

        return [working, *begun(parts)], begun(endless)

    async def _wind_down(self, loops: Loops) -> None:
        """No new work, a grace for what runs, everything released."""
        self.health.stopping()
        grace = format_duration(self.settings.stop_grace)
        log.info("stopping", busy=self.worker.busy, grace=grace, hint="Ctrl-C again skips it")
        self.scheduler.stop()
        self.pruner.stop()
        self.wishes.stop()
        for reconciler in self.reconcilers.values():
            reconciler.stop()
        for tenure in self.tenures.values():
            tenure.stop()
        await self.worker.stop(self.settings.stop_grace)
        told, endless = loops
        for each in endless:
            each.cancel()
        await asyncio.gather(*told, *endless, return_exceptions=True)
        log.info("stopped")

    async def _supervise(self, name: str, part: Loop) -> None:
        """Run a loop; a bug in it is told, and the loop begins again, unless a stop comes."""
        pause = 1.0
        while True:
            try:
                await part()
            except Exception:
                if self._stop.is_set():
                    return
                log.exception("a loop failed and begins again", loop=name)
                self.health.failed(name, "failed; it begins again")
                await self._unless_stopped(self.app.clock.sleep(pause))
                if self._stop.is_set():
                    return
                pause = min(pause * 2, 60.0)
                self.health.well(name)
            else:
                return

    async def _unless_stopped(self, work: Coroutine[Any, Any, object]) -> None:
        """Wait for something, and no longer than until a stop."""
        both = [asyncio.ensure_future(each) for each in (work, self._stop.wait())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()

    async def _beat(self) -> None:
        while True:
            self.health.beat()
            try:
                self._lock.keep(self.app.clock.now())
            except Refused as error:  # whoever has it now has taken over what we had
                self._displaced = error
                self._interrupted()
                self.worker.hurried = True
            await self.app.clock.sleep(BEAT)

    def _applied(self) -> None:
        """A source was applied: its schedules fire, and others may see other workflows."""
        self.scheduler.look_again()
        self.wishes.look_again()

    def _rang(self) -> None:
        self.worker.wake()
        self.scheduler.look_again()
        self.wishes.look_again()
        for tenure in self.tenures.values():
            tenure.look_again()

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        ask_to_end(loop, lambda _: self._stop.set())
        loop.add_signal_handler(signal.SIGINT, self._interrupted)

    def _interrupted(self) -> None:
        """The first Ctrl-C stops, the next one waits no longer for what runs."""
        if self._stop.is_set():
            self.worker.hurried = True
        self._stop.set()

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
