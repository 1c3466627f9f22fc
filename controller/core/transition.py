"""How lists of steps and single steps go on while one event is applied.

See `core/decide.py` for how a list goes and how a failure goes; these are the moves.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from controller.core.binding import bind, clear, forget, missing_outputs, output_value
from controller.core.execution import (
    ACTIVE,
    COMPLETED,
    PENDING,
    RUNNING,
    SETTLED,
    Arm,
    Change,
    Command,
    ExecutionState,
    Failure,
    Finish,
    Frame,
    Launch,
    Perform,
    Reason,
    Status,
    StepState,
)
from controller.core.expression import ExpressionError
from controller.core.follow import inside, more_branches, stop_commands, timeout_of, will_retry
from controller.core.names import Names
from controller.core.retry import delay_before


class Transition:  # ruff: ignore[too-many-public-methods]  # one a move
    """One event being applied: the state, the time, and what comes out.

    Args:
        started: How each kind of step that holds steps begins; see `core/containers.py`.
        closed: What it does when one of its lists has closed.
    """

    def __init__(
        self,
        state: ExecutionState,
        at: int,
        started: "Mapping[str, Started]",
        closed: "Mapping[str, Closed]",
    ) -> None:
        self.state = state
        self.started = started
        self.closed = closed
        self.at = at
        self.commands: list[Command] = []
        self.changes: list[Change] = []
        self.ready: deque[StepState] = deque()
        self.quiet: deque[Frame] = deque()

    def settle_all(self) -> None:
        """Begin what is ready, then close what is quiet, until there is neither."""
        while self.ready or self.quiet:
            while self.ready:
                step = self.ready.popleft()
                if step.status is PENDING and step.unmet <= 0 and not step.frame.closed:
                    self.begin(step)
            if self.quiet:
                frame = self.quiet.popleft()
                if frame.active == 0 and not frame.closed:
                    self.close(frame)

    # -- lists of steps ---------------------------------------------------------------------

    def open(self, frame: Frame) -> None:
        """Make the frame's steps and begin those that depend on nothing."""
        known = self.state.steps
        for plan in frame.block.steps:
            key = frame.scope.prefix + plan.id
            step = known.get(key)
            if step is None:
                step = known[key] = StepState(plan, frame)
            else:
                step.reset(frame)
            frame.steps[plan.id] = step
            if step.unmet == 0:
                self.ready.append(step)
        self.quiet.append(frame)

    def close(self, frame: Frame) -> None:
        """Nothing in it runs or waits: hand on to its owner, unless steps are only held back."""
        if frame.open and not self.stopped(frame):
            return
        frame.closed = True
        for step in frame.steps.values():
            if step.status is Status.PENDING:
                reason = Reason.CANCELLED if self.state.cancelling else Reason.FAILED_BEFORE
                self.change(step, Status.SKIPPED, reason)
        if frame.owner is None:
            self.end_of_top(frame)
        else:
            self.closed[frame.owner.plan.type](self, frame.owner, frame)

    def stopped(self, frame: Frame | None) -> bool:
        """No new step may start in this frame."""
        state = self.state
        if state.cancelling or (state.failure is not None and not state.handling):
            return True
        while frame is not None:
            if frame.failure is not None or (frame.owner and frame.owner.failure):
                return True
            frame = frame.owner.frame if frame.owner else None
        return False

    # -- one step ---------------------------------------------------------------------------

    def change(self, step: StepState, status: Status, reason: Reason | None = None) -> None:
        """Move a step to `status`, keeping its frame's counts, and say so."""
        frame = step.frame
        frame.active += (status in ACTIVE) - (step.status in ACTIVE)
        frame.open += (step.status in SETTLED) - (status in SETTLED)
        step.status = status
        step.reason = reason
        if status in SETTLED:
            step.completed_at = self.at
            if frame.active == 0:
                self.quiet.append(frame)
        self.changes.append(Change(step.key, status, step.attempt, reason, step.error))

    def settled(self, step: StepState) -> None:
        """Its dependents have one thing less to wait for."""
        for name in step.plan.dependents:
            below = step.frame.steps[name]
            below.unmet -= 1
            if below.unmet == 0:
                self.ready.append(below)

    def begin(self, step: StepState) -> None:
        """Start a step whose dependencies have settled, unless something forbids or skips it."""
        if self.stopped(step.frame):
            self.quiet.append(step.frame)  # it may have been held back while its list was doomed
            return
        if self.state.paused_at is not None:
            self.state.held.append(step)
            return
        plan = step.plan
        try:
            if plan.when is not None and not plan.when.render(self.names(step)):
                self.change(step, Status.SKIPPED, Reason.WHEN_FALSE)
                forget(step)
                self.settled(step)
                return
        except ExpressionError as error:
            self.attempt(step, Status.RUNNING)
            self.failed(step, "expression", f"when: {error}")
            return
        self.start(step)

    def start(self, step: StepState) -> None:
        """Start one attempt."""
        if step.plan.type == "action":
            self.attempt(step, RUNNING)
            self.commands.append(Perform(step.key, step.attempt))
            return
        subflow = step.plan.type == "subflow"
        self.attempt(step, Status.WAITING if subflow else Status.RUNNING, subflow=subflow)
        self.commands.extend(timeout_of(step))
        if subflow:
            self.commands.append(Launch(step.key, step.attempt))
            return
        clear(step.frame, list(inside(self.state, step)))
        step.hold()
        try:
            self.started[step.plan.type](self, step)
        except ExpressionError as error:
            self.failed(step, "expression", str(error))

    def attempt(self, step: StepState, status: Status, *, subflow: bool = False) -> None:
        """Count and announce an attempt."""
        step.attempt += 1
        step.tries += 1
        step.started_at = step.since = self.at
        step.stopping = False
        step.due = None
        step.error = step.failure = None
        self.change(step, status, Reason.SUBFLOW if subflow else None)

    def names(self, step: StepState) -> Names:
        """What an expression of this step sees."""
        return Names(self.state, step.frame.scope)

    def completed(self, step: StepState, outputs: dict[str, Any]) -> None:
        """Bind the outputs and go on."""
        missing = missing_outputs(step, outputs)
        if missing:
            self.failed(step, "missing_output", missing)
            return
        step.outputs = outputs
        bind(step, outputs)
        self.change(step, COMPLETED)
        self.settled(step)

    def failed(self, step: StepState, kind: str, message: str) -> None:
        """An attempt failed by itself."""
        self.fail(step, Failure(step=step.key, type=kind, message=message))

    def fail(self, step: StepState, error: Failure) -> None:
        """An attempt failed, perhaps for what it holds: try again, or do what `on_error` says."""
        step.error = error
        if step.stopping or self.state.cancelling:
            self.change(step, Status.CANCELLED, Reason.CANCELLED)
            self.settled(step)
        elif will_retry(step, error["type"]) and not self.stopped(step.frame):
            policy = step.plan.retry
            assert policy is not None  # ruff: ignore[assert]  # will_retry says so
            seed = f"{self.state.identity.id}/{step.key}/{step.attempt}"
            step.due = self.at + delay_before(policy, step.tries, seed)
            self.change(step, Status.WAITING, Reason.RETRY)
            self.commands.append(Arm(step.key, step.attempt, "retry", step.due))
        else:
            self.failed_for_good(step)

    def failed_for_good(self, step: StepState) -> None:
        """`continue`, `goto` or doom."""
        forget(step)
        target = (
            step.frame.steps.get(step.plan.goto or "") if step.plan.on_error == "goto" else None
        )
        if target is not None and not self.stopped(step.frame):
            if step.gotos < self.state.plan.policy.max_gotos:
                step.gotos += 1
                self.goto(step, target)
                return
            why = f": {step.error['type']}: {step.error['message']}" if step.error else ""
            message = f"went to step {target.key} {step.gotos} times, and failed again{why}"
            step.error = Failure(step=step.key, type="goto_limit", message=message)
        if step.plan.on_error != "continue":
            self.doom(step)
        self.change(step, Status.FAILED)
        self.settled(step)

    # -- failure ----------------------------------------------------------------------------

    def doom(self, step: StepState) -> None:
        """Nothing new starts up to the first owner that has an answer to the failure."""
        frame, error = step.frame, step.error
        while True:
            if frame.failure is None:
                frame.failure = error
                self.abandon(frame)
            owner = frame.owner
            if owner is None:
                if not self.state.handling:
                    self.state.failure = self.state.failure or error
                return
            if not owner.plan.wait_all and (owner.open_frames > 1 or more_branches(owner)):
                return  # another branch may still win
            owner.failure = owner.failure or error
            for sibling in owner.frames.values():
                self.abandon(sibling)
            kind = error["type"] if error else ""
            if owner.plan.on_error != "fail" or will_retry(owner, kind):
                return
            frame = owner.frame

    def abandon(self, frame: Frame) -> None:
        """Stop waiting, here and below: for a retry, a timer or a signal. What runs finishes."""
        for step in list(frame.steps.values()):
            if step.status is Status.WAITING and step.reason != Reason.SUBFLOW:
                retrying = step.reason == Reason.RETRY
                self.change(step, Status.FAILED if retrying else Status.CANCELLED)
            for inner in step.frames.values():
                self.abandon(inner)

    def goto(self, step: StepState, target: StepState) -> None:
        """Go on at `target`: forward over the steps between, or back to do them again."""
        frame = step.frame
        below = frame.block.below(target.plan.id)
        if target.status is Status.PENDING:
            self.change(step, Status.FAILED)
            passed = [
                other
                for name, other in frame.steps.items()
                if other.status is Status.PENDING and name not in below
            ]
            for other in passed:
                self.change(other, Status.SKIPPED, Reason.GOTO)
                forget(other)
            for other in [step, *passed]:
                self.settled(other)
            target.unmet = 0
            self.ready.append(target)
            return
        if step.plan.id not in below:
            self.change(step, Status.FAILED)
            self.settled(step)
        again = [frame.steps[name] for name in frame.block.by_id if name in below]
        held = [inner for other in again for inner in inside(self.state, other)]
        for other in again:
            self.end_inside(other, Reason.GOTO)
            if other is not step and other.status in ACTIVE:
                self.commands.extend(stop_commands(other, force=False))
            self.change(other, Status.PENDING, Reason.GOTO)
            other.reset(frame)
        clear(frame, held)
        for other in again:
            needs = [frame.steps[name] for name in other.plan.needs]
            other.unmet = sum(need.status not in SETTLED for need in needs)
        target.unmet = 0
        self.ready.append(target)

    def end_inside(self, step: StepState, reason: Reason, *, force: bool = False) -> None:
        """Cancel everything that a step holds, at once; late results are not relevant any more."""
        for frame in step.frames.values():
            frame.closed = True
            for inner in frame.steps.values():
                self.end_inside(inner, reason, force=force)
                if inner.status in ACTIVE:
                    self.commands.extend(stop_commands(inner, force=force))
                    self.change(inner, Status.CANCELLED, reason)
                elif inner.status is Status.PENDING:
                    self.change(inner, Status.SKIPPED, reason)

    def stop_running(self, frame: Frame, reason: Reason) -> None:
        """Ask all that runs to end, and end all that waits; children report when they have."""
        for step in list(frame.steps.values()):
            for inner in step.frames.values():
                self.stop_running(inner, reason)
            if step.status not in ACTIVE or (step.plan.nested and step.reason != Reason.RETRY):
                continue
            if step.status is Status.WAITING and step.reason != Reason.SUBFLOW:
                self.change(step, Status.CANCELLED, reason)
            else:
                step.stopping = True
                self.commands.extend(stop_commands(step, force=False))
        self.quiet.append(frame)

    # -- the end ----------------------------------------------------------------------------

    def end_of_top(self, frame: Frame) -> None:
        """The top list has closed, or the error handler's."""
        state = self.state
        if state.cancelling:
            self.finish(Status.CANCELLED)
            return
        if state.handling:
            if frame.failure is not None and state.error is not None:
                state.error["handler"] = dict(frame.failure)
            self.finish(Status.FAILED)
            return
        if state.failure is None:
            self.give_outputs()
        if state.failure is None:
            self.finish(Status.COMPLETED)
            return
        state.error = dict(state.failure)
        if state.plan.handler is None:
            self.finish(Status.FAILED)
            return
        state.handling = True
        state.deadline = self.at + state.plan.timeout
        state.overdue = False
        self.commands.append(Arm(None, 0, "deadline", state.deadline))
        state.frame = Frame(state.plan.handler, frame.scope, None, 0)
        self.open(state.frame)

    def give_outputs(self) -> None:
        """Render the workflow's outputs; one that cannot be is a failure of the execution."""
        state = self.state
        names = Names(state, state.frame.scope)
        for output in state.plan.outputs:
            try:
                state.outputs[output.name] = output_value(state, output, names)
            except ExpressionError as error:
                message = f"output {output.name!r}: {error}"
                state.failure = Failure(step=None, type="output", message=message)
                state.outputs = {}
                return

    def finish(self, status: Status) -> None:
        """The last transition."""
        state = self.state
        state.status = status
        state.completed_at = self.at
        failure = state.failure if status is Status.FAILED else None
        self.changes.append(Change(None, status, error=failure))
        self.commands.append(Finish(status))


Started = Callable[[Transition, StepState], None]
Closed = Callable[[Transition, StepState, Frame], None]
