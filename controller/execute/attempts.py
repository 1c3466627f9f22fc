"""The steps of one execution that are being performed: begun, timed, stopped, and their results."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from controller.core.execution import Event, EventType, Perform, Status, StepState
from controller.execute.action import ActionFailed, Call, Result, Suspended
from controller.execute.host import Host
from controller.execute.patience import patiently
from controller.execute.perform import failure_of
from controller.store.records import ExecutionRecord

_TOLD = {"stop": "cancelled", "timeout": "timeout"}
"""Why an attempt was ended → the type of its failure; `shutdown` is not told: it goes on later."""

INTERRUPTED = "the controller ended while this ran; it is never run twice"


@dataclass(slots=True)
class Attempt:
    """A step being performed: its call, its task, and why it was asked to end.

    A task that is cancelled before its first turn never runs, and would report nothing: until it
    has `begun`, it is only told, and looks.

    Attributes:
        tries: Which attempt it is of its step, and of each step that holds it: key → number.
        after: What has to end before.
    """

    call: Call
    tries: Mapping[str, int]
    after: frozenset[asyncio.Task[None]]
    task: asyncio.Task[None] | None = None
    begun: bool = False
    ending: str | None = None

    def end(self, why: str) -> None:
        """Ask it to end; a forced stop is asked again."""
        if self.ending is None or (why == "stop" and self.call.force):
            self.ending = why
            if self.task is not None and self.begun:
                self.task.cancel()


class Attempts:
    """What one execution performs now.

    Args:
        execution: Its id.
        workflow: Its workflow's name.
        report: Takes the event that an attempt ends with.
        calm: Called when an attempt that took its time has ended.
    """

    def __init__(
        self,
        execution: str,
        workflow: str,
        host: Host,
        report: Callable[[Event], None],
        calm: Callable[[], None],
    ) -> None:
        self._execution = execution
        self._workflow = workflow
        self._host = host
        self._report = report
        self._calm = calm
        self._now: dict[tuple[str, int], Attempt] = {}
        self._leaving: dict[tuple[str, int], Attempt] = {}
        self._before: frozenset[asyncio.Task[None]] = frozenset()
        self._kept: list[Event] = []

    def __len__(self) -> int:
        """How many are being performed; a result that is kept takes no place among the many."""
        return len(self._now)

    @property
    def unreported(self) -> bool:
        """Whether results are kept."""
        return bool(self._kept)

    def begin(self, step: StepState, names: Mapping[str, Any]) -> None:
        """Perform the step's action.

        What computes and returns is reported at once; in a rush it is kept until `settle`, so that
        the others begin before what follows from this.
        """
        host, plan = self._host, step.plan
        call = Call(
            execution=self._execution,
            workflow=self._workflow,
            step=step.key,
            attempt=step.attempt,
            log=host.logs.of(self._execution, step.key, step.attempt, host.secrets.mask),
            clock=host.clock,
            lease=host,
            emit=partial(self._emit, step.attempt - step.tries + 1),
            cut=host.secrets.cut,
        )
        try:
            inputs = plan.inputs.render(names) if plan.inputs is not None else {}
            result = host.performer.perform(plan, call, inputs)
        except Exception as error:  # ruff: ignore[blind-except]  # whatever it is, the step fails
            self._kept.append(self._failure(step.key, step.attempt, error))
        else:
            if isinstance(result, Coroutine):
                attempt = Attempt(call, dict(_tries(step)), self.earlier(step))
                self._start(attempt, result, plan.timeout)
            else:
                self._kept.append(self._success(step.key, step.attempt, result))
        if not host.rushed:
            self.settle()

    def may_repeat(self, step: StepState, command: Perform, claimed: ExecutionRecord) -> bool:
        """Whether what is outstanding may be performed, perhaps again; otherwise it has failed."""
        if (step.attempt, step.status) != (command.attempt, Status.RUNNING):
            return False
        if step.stopping:
            self.failed(step.key, step.attempt, ActionFailed("cancelled", "stopped"))
            return False
        if claimed.claims > 1 and not step.plan.idempotent:
            self.failed(step.key, step.attempt, ActionFailed("interrupted", INTERRUPTED))
            return False
        return True

    def settle(self) -> None:
        """Report what was kept."""
        kept, self._kept = self._kept, []
        for event in kept:
            self._report(event)

    @property
    def going(self) -> frozenset[asyncio.Task[None]]:
        """What is being performed, or has to end before anything is."""
        return self._before.union(each.task for each in self._now.values() if each.task is not None)

    def begin_after(self, others: frozenset[asyncio.Task[None]]) -> None:
        """Begin nothing before these have ended: what an earlier claim performs here."""
        self._before = others

    def earlier(self, step: StepState) -> frozenset[asyncio.Task[None]]:
        """What was told to end and has not: earlier tries of a step, or of one that holds it.

        They take their time: a process has its kill grace. Until then, no next try begins.
        """
        if not (self._leaving or self._before):
            return frozenset()
        now = dict(_tries(step))
        over = {
            each.task
            for each in self._leaving.values()
            if each.task is not None
            and any(now.get(key, number) != number for key, number in each.tries.items())
        }
        self._before = frozenset(task for task in self._before if not task.done())
        return self._before | over

    def _start(
        self, attempt: Attempt, work: Coroutine[Any, Any, Result], limit: int | None
    ) -> None:
        call = attempt.call
        try:
            attempt.task = self._host.start(self._await(attempt, work, limit))
        except BaseException:
            work.close()
            raise
        self._now[call.step, call.attempt] = attempt
        attempt.task.add_done_callback(lambda _: self._never_began(call))

    def stop(self, step: str, number: int, *, force: bool) -> bool:
        """Ask an attempt to end; False: it is not being performed."""
        attempt = self._now.get((step, number))
        if attempt is None:
            return False
        attempt.call.force = force
        attempt.end("stop")
        self._leaving[step, number] = attempt
        return True

    def interrupt(self) -> None:
        """End everything without a result: it stays outstanding."""
        self.settle()
        for attempt in self._now.values():
            attempt.end("shutdown")

    def failed(self, step: str, number: int, error: Exception) -> None:
        """Report a failure, secrets masked."""
        self._report(self._failure(step, number, error))

    def _success(self, step: str, number: int, result: Result) -> Event:
        """What an attempt gave, secrets masked."""
        now, mask = self._host.clock.now(), self._host.secrets.mask
        if isinstance(result, Suspended):
            data = {
                "until": result.until,
                "signal": mask(result.signal),
                "approval": result.approval,
                "outputs": mask(result.outputs),
            }
            return Event(EventType.SUSPENDED, now, step, number, data)
        return Event(EventType.COMPLETED, now, step, number, {"outputs": mask(result)})

    def _failure(self, step: str, number: int, error: Exception) -> Event:
        """Why an attempt failed, secrets masked."""
        mask, failure = self._host.secrets.mask, failure_of(error)
        data = {"type": mask(failure.type), "message": mask(failure.message)}
        if failure.outputs:
            data["outputs"] = mask(failure.outputs)
        return Event(EventType.FAILED, self._host.clock.now(), step, number, data)

    async def _await(
        self, attempt: Attempt, work: Coroutine[Any, Any, Result], limit: int | None
    ) -> None:
        """Perform to the end, and report what came of it."""
        attempt.begun = True
        call = attempt.call
        result = failure = None
        try:
            result = await self._within(attempt, work, limit)
        except Exception as error:  # ruff: ignore[blind-except]  # whatever it is, the step fails
            failure = error
        finally:
            self._over(call)
        if failure is not None:
            self.failed(call.step, call.attempt, failure)
        elif result is not None:
            self._report(self._success(call.step, call.attempt, result))
        self._calm()

    def _over(self, call: Call) -> bool:
        """Whether it was being performed until now."""
        self._leaving.pop((call.step, call.attempt), None)
        return self._now.pop((call.step, call.attempt), None) is not None

    def _never_began(self, call: Call) -> None:
        """Its task has ended, perhaps before its first turn: then nobody else says so."""
        if self._over(call):
            self._calm()

    async def _within(
        self, attempt: Attempt, work: Coroutine[Any, Any, Result], limit: int | None
    ) -> Result | None:
        """The result; None when it was interrupted and stays outstanding."""
        try:
            if attempt.ending is None:
                return await self._placed(attempt, work, limit)
        except asyncio.CancelledError:
            if attempt.ending is None:
                raise
        finally:
            work.close()
        if attempt.ending == "shutdown":
            return None
        took = f"took longer than its timeout of {(limit or 0) / 1000:g} s"
        message = took if attempt.ending == "timeout" else "stopped"
        raise ActionFailed(_TOLD[attempt.ending], message)

    async def _placed(
        self, attempt: Attempt, work: Coroutine[Any, Any, Result], limit: int | None
    ) -> Result:
        """The result, begun after earlier tries, when there is a place for it, under a lease."""
        if attempt.after:
            await asyncio.wait(attempt.after)
        async with self._host.slots:
            await self._host.held()
            if limit is None:
                return await work
            timer = self._host.clock.call_later(limit, lambda: attempt.end("timeout"))
            try:
                return await work
            finally:
                timer.cancel()

    async def _emit(self, first: int, call: Call, event: str, data: Mapping[str, Any]) -> None:
        """Start the workflows that wait for an event; done again, it starts nothing twice.

        What was started is told by the `first` attempt of this visit: a retry is not another event.
        """
        gate, clock, mask = self._host.gate, self._host.clock, self._host.secrets.mask
        event, data = mask(event), mask(data)
        key = f"{call.execution}/{call.step}/{first}"
        left_out = await patiently(clock, lambda: gate.emit(event, data, key, clock.now()))
        for workflow, why in left_out:
            call.log("warn", f"event {event!r} does not start workflow {workflow!r}: {why}", None)
        self._host.wake()


def _tries(step: StepState) -> Iterator[tuple[str, int]]:
    """The step and those that hold it, each with the number of its attempt."""
    holder: StepState | None = step
    while holder is not None:
        yield holder.key, holder.attempt
        holder = holder.frame.owner
