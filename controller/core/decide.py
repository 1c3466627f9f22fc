"""The state machine: every transition of an execution is in this file.

    decide(state, event) -> commands, changes

`state` is changed in place; the commands are carried out by the worker once the event is durable.
Nothing here reads a clock or rolls dice: folding the same events over the same plan gives the same
state on any machine, which is what recovery, the status pages and the simulator rest on.

How a list of steps (`Frame`) goes. Each step counts its dependencies that have not settled; at zero
it begins. A step that settles counts its dependents down, so an event costs what it changes. When
nothing in a frame runs or waits, the frame closes and its owner goes on: a condition completes, a
parallel opens the next branch, a loop its next iteration, the execution ends.

How a failure goes. A step that has failed for good dooms its frame, the frame its owner, and so on
up to the first owner that has an answer (`continue`, `goto`, a retry left): below that point no new
step starts, what runs finishes, and then the owner fails and its `on_error` speaks. Without such
an owner the doom reaches the top and the execution fails, after its `error_handler`.

Crashes need no code here. Steps that ran when the daemon died are still running in the fold:
`outstanding` lists the commands to carry out again, and the worker reports the ones that must not
be repeated as failed, with type `interrupted`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from controller.core.execution import (
    ACTIVE,
    FINAL,
    SETTLED,
    Arm,
    Change,
    Command,
    Decision,
    Event,
    EventType,
    ExecutionState,
    Failure,
    Finish,
    Frame,
    Identity,
    Launch,
    Perform,
    Reason,
    Scope,
    Status,
    StepState,
    Stop,
    TimerName,
)
from controller.core.expression import ExpressionError
from controller.core.inputs import fits
from controller.core.names import Names
from controller.core.plan import Block, OutputPlan, Plan
from controller.core.retry import delay_before, may_retry

NEVER_AGAIN = frozenset({"interrupted", "expression", "goto_limit", "max_iterations"})
"""Error types that trying again cannot mend; retried only where `retry.on` names them."""


def begin(plan: Plan, identity: Identity) -> tuple[ExecutionState, Decision]:
    """A new state with its first steps started, as of `identity.started_at`."""
    state = ExecutionState(plan, identity)
    move = _Transition(state, identity.started_at)
    move.changes.append(Change(None, Status.RUNNING))
    move.commands.append(Arm(None, 0, "deadline", state.deadline))
    move.open(state.frame)
    move.settle_all()
    return state, Decision(move.commands, move.changes)


def decide(state: ExecutionState, event: Event) -> Decision:
    """Apply one event; an event that is no longer relevant changes nothing."""
    move = _Transition(state, event.at)
    if relevant(state, event):
        _HANDLERS[event.type](move, event)
        move.settle_all()
    return Decision(move.commands, move.changes)


def fold(plan: Plan, identity: Identity, events: Iterable[Event]) -> ExecutionState:
    """The state after `events`, from the beginning."""
    state, _ = begin(plan, identity)
    for event in events:
        decide(state, event)
    return state


def relevant(state: ExecutionState, event: Event) -> bool:
    """Whether the event still means something; the worker does not record one that does not."""
    if state.status in FINAL:
        return False
    match event.type:
        case EventType.CANCEL:
            return not state.cancelling or bool(event.data.get("force"))
        case EventType.PAUSE:
            return not state.cancelling and (state.paused_at is None or state.restarting)
        case EventType.RESUME:
            return state.paused_at is not None
        case EventType.SIGNAL:
            return True
        case EventType.DUE if event.data["timer"] == "deadline":
            ending = state.cancelling or (state.failure is not None and not state.handling)
            return not ending and state.paused_at is None and event.at >= state.deadline
    step = state.steps.get(event.step or "")
    if step is None or step.attempt != event.attempt or step.status not in ACTIVE:
        return False
    if event.type is not EventType.DUE:
        return step.status is Status.RUNNING or step.reason == Reason.SUBFLOW
    retrying = step.reason == Reason.RETRY
    match event.data["timer"]:
        case "retry":
            return retrying
        case "wake":
            return step.status is Status.WAITING and not retrying
        case _:
            return not retrying


def outstanding(state: ExecutionState) -> list[Command]:
    """What has to be done, or done again, to go on from `state` after a restart."""
    commands: list[Command] = [Arm(None, 0, "deadline", state.deadline)]
    for step in state.active_steps():
        if step.status is Status.WAITING:
            if step.due is not None:
                timer: TimerName = "retry" if step.reason == Reason.RETRY else "wake"
                commands.append(Arm(step.key, step.attempt, timer, step.due))
            if step.reason == Reason.SUBFLOW:
                commands.append(Launch(step.key, step.attempt))
        elif step.plan.type == "action":
            commands.append(Perform(step.key, step.attempt))
        commands.extend(_timeout_of(step))
    return commands


def _timeout_of(step: StepState) -> Iterator[Arm]:
    """Attempts of actions are timed by the worker; what waits or holds steps is timed here."""
    timed = step.plan.nested or step.status is Status.WAITING
    if step.plan.timeout is not None and timed and step.reason != Reason.RETRY:
        started = step.started_at or 0
        yield Arm(step.key, step.attempt, "timeout", started + step.plan.timeout)


class _Transition:
    """One event being applied: the state, the time, and what comes out."""

    def __init__(self, state: ExecutionState, at: int) -> None:
        self.state = state
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
                if step.status is Status.PENDING and step.unmet <= 0:
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
            _CLOSED[frame.owner.plan.type](self, frame.owner, frame)

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
                self.forget(step)
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
            self.attempt(step, Status.RUNNING)
            self.commands.append(Perform(step.key, step.attempt))
            return
        subflow = step.plan.type == "subflow"
        self.attempt(step, Status.WAITING if subflow else Status.RUNNING, subflow=subflow)
        self.commands.extend(_timeout_of(step))
        if subflow:
            self.commands.append(Launch(step.key, step.attempt))
            return
        step.clear()
        try:
            _STARTED[step.plan.type](self, step)
        except ExpressionError as error:
            self.failed(step, "expression", str(error))

    def attempt(self, step: StepState, status: Status, *, subflow: bool = False) -> None:
        """Count and announce an attempt."""
        step.attempt += 1
        step.tries += 1
        step.started_at = self.at
        step.stopping = False
        step.due = None
        step.error = None
        self.change(step, status, Reason.SUBFLOW if subflow else None)

    def names(self, step: StepState) -> Names:
        """What an expression of this step sees."""
        return Names(self.state, step.frame.scope)

    def completed(self, step: StepState, outputs: dict[str, Any]) -> None:
        """Bind the outputs and go on."""
        missing = _missing(step, outputs)
        if missing:
            self.failed(step, "missing_output", missing)
            return
        step.outputs = outputs
        bind(step, outputs)
        self.change(step, Status.COMPLETED)
        self.settled(step)

    def forget(self, step: StepState) -> None:
        """The variables of a step that gave nothing are null."""
        names = step.frame.scope.names
        for name in step.plan.binds:
            names[name] = None

    def failed(self, step: StepState, kind: str, message: str) -> None:
        """An attempt failed by itself."""
        self.fail(step, Failure(step=step.key, type=kind, message=message))

    def fail(self, step: StepState, error: Failure) -> None:
        """An attempt failed, perhaps for what it holds: try again, or do what `on_error` says."""
        step.error = error
        if step.stopping or self.state.cancelling:
            self.change(step, Status.CANCELLED, Reason.CANCELLED)
            self.settled(step)
        elif self.will_retry(step, error["type"]) and not self.stopped(step.frame):
            policy = step.plan.retry
            assert policy is not None  # ruff: ignore[assert]  # will_retry says so
            seed = f"{self.state.identity.id}/{step.key}/{step.attempt}"
            step.due = self.at + delay_before(policy, step.tries, seed)
            self.change(step, Status.WAITING, Reason.RETRY)
            self.commands.append(Arm(step.key, step.attempt, "retry", step.due))
        else:
            self.failed_for_good(step)

    def will_retry(self, step: StepState, kind: str) -> bool:
        """Whether the policy leaves another try after an error of this type."""
        policy = step.plan.retry
        if policy is None or (kind in NEVER_AGAIN and kind not in policy.on):
            return False
        return may_retry(policy, step.tries, kind)

    def failed_for_good(self, step: StepState) -> None:
        """`continue`, `goto` or doom."""
        self.forget(step)
        target = (
            step.frame.steps.get(step.plan.goto or "") if step.plan.on_error == "goto" else None
        )
        if target is not None and not self.stopped(step.frame):
            if step.gotos < self.state.plan.policy.max_gotos:
                step.gotos += 1
                self.goto(step, target)
                return
            message = f"went to {target.key!r} {step.gotos} times; last error: {step.error}"
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
            if not owner.plan.wait_all and (owner.open_frames > 1 or _more_branches(owner)):
                return  # another branch may still win
            owner.failure = owner.failure or error
            for sibling in owner.frames.values():
                self.abandon(sibling)
            kind = error["type"] if error else ""
            if owner.plan.on_error != "fail" or self.will_retry(owner, kind):
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
                self.forget(other)
            for other in [step, *passed]:
                self.settled(other)
            target.unmet = 0
            self.ready.append(target)
            return
        if step.plan.id not in below:
            self.change(step, Status.FAILED)
            self.settled(step)
        again = [frame.steps[name] for name in frame.block.by_id if name in below]
        for other in again:
            self.end_inside(other, Reason.GOTO)
            if other is not step and other.status in ACTIVE:
                self.commands.extend(_stop(other, force=False))
            self.change(other, Status.PENDING, Reason.GOTO)
            other.reset(frame)
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
                    self.commands.extend(_stop(inner, force=force))
                    self.change(inner, Status.CANCELLED, reason)
                elif inner.status is Status.PENDING:
                    self.change(inner, Status.SKIPPED, reason)

    def stop_running(self, frame: Frame, reason: Reason) -> None:
        """Ask all that runs to end, and end all that waits; children report when they have."""
        for step in list(frame.steps.values()):
            for inner in step.frames.values():
                self.stop_running(inner, reason)
            if step.status not in ACTIVE or step.plan.nested:
                continue
            if step.status is Status.WAITING and step.reason != Reason.SUBFLOW:
                self.change(step, Status.CANCELLED, reason)
            else:
                step.stopping = True
                self.commands.extend(_stop(step, force=False))

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
        self.commands.append(Arm(None, 0, "deadline", state.deadline))
        state.frame = Frame(state.plan.handler, frame.scope, None, 0)
        self.open(state.frame)

    def give_outputs(self) -> None:
        """Render the workflow's outputs; one that cannot be is a failure of the execution."""
        state = self.state
        names = Names(state, state.frame.scope)
        for output in state.plan.outputs:
            try:
                state.outputs[output.name] = _output(state, output, names)
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

    # -- containers -------------------------------------------------------------------------

    def enter(self, step: StepState, block: Block, scope: Scope, index: int) -> None:
        """Open one list of steps below a step."""
        frame = Frame(block, scope, step, index)
        step.frames[index] = frame
        step.open_frames += 1
        self.open(frame)

    def start_condition(self, step: StepState) -> None:
        """Choose a branch."""
        expression = step.plan.expression
        chosen = bool(expression.render(self.names(step))) if expression is not None else False
        step.items = [chosen]
        block = step.plan.blocks[0 if chosen else 1]
        if block.steps:
            self.enter(step, block, step.frame.scope, 0)
        else:
            self.completed(step, {"result": chosen})

    def closed_condition(self, step: StepState, frame: Frame) -> None:
        """The branch has ended."""
        step.open_frames -= 1
        if self.gave_up(step, frame):
            return
        self.completed(step, {"result": (step.items or [False])[0]})

    def start_parallel(self, step: StepState) -> None:
        """Open as many branches as may go at once."""
        for _ in range(min(step.plan.width, len(step.plan.blocks))):
            self.next_branch(step)

    def next_branch(self, step: StepState) -> None:
        """Open the next branch."""
        index = step.cursor
        step.cursor += 1
        self.enter(step, step.plan.blocks[index], step.frame.scope, index)

    def closed_parallel(self, step: StepState, frame: Frame) -> None:
        """A branch has ended: with `wait_all: false` the first to complete wins."""
        step.open_frames -= 1
        if not step.plan.wait_all and frame.failure is None and not self.stopped(frame):
            self.end_inside(step, Reason.BRANCH_WON)
            self.completed(step, {"branch": frame.index})
            return
        if step.failure is None and _more_branches(step) and not self.stopped(step.frame):
            self.next_branch(step)
            return
        if step.open_frames == 0 and not self.gave_up(step, frame):
            self.completed(step, {})

    def start_loop(self, step: StepState) -> None:
        """Take the items, refuse too many, open the first iterations."""
        plan = step.plan
        step.items = None
        if plan.over is not None:
            step.items = _items(plan.over.render(self.names(step)))
            if plan.max_iterations is not None and len(step.items) > plan.max_iterations:
                message = (
                    f"{len(step.items)} items are more than max_iterations {plan.max_iterations}"
                )
                self.failed(step, "max_iterations", message)
                return
            if not step.items:
                self.completed_loop(step)
                return
        step.results = [{} for _ in step.items or ()]
        width = min(plan.width, len(step.items)) if step.items is not None else 1
        for _ in range(width):
            self.next_iteration(step)

    def next_iteration(self, step: StepState) -> None:
        """Open the next iteration, with its item and index as variables."""
        index = step.cursor
        step.cursor += 1
        outer = step.frame.scope
        scope = Scope(f"{outer.prefix}{step.plan.id}[{index}].", outer)
        if step.items is not None:
            scope.names[step.plan.item] = step.items[index]
        scope.names[f"{step.plan.item}_index"] = index
        self.enter(step, step.plan.blocks[0], scope, index)

    def closed_loop(self, step: StepState, frame: Frame) -> None:
        """An iteration has ended: keep what it gave, then go on or complete."""
        step.open_frames -= 1
        del step.frames[frame.index]
        if step.failure is not None or self.stopped(step.frame):
            if step.open_frames == 0:
                self.gave_up(step, frame)
            return
        if step.items is None:
            step.results.append({})
        step.results[frame.index] = _gave(step, frame)
        try:
            more = self.more_iterations(step, frame)
        except ExpressionError as error:
            self.failed(step, "expression", f"while: {error}")
            return
        if step.status is not Status.RUNNING:
            return
        if more:
            self.next_iteration(step)
        elif step.open_frames == 0:
            self.completed_loop(step)

    def more_iterations(self, step: StepState, frame: Frame) -> bool:
        """Whether there is an item left, or `while` still holds after the iteration."""
        plan = step.plan
        if step.items is not None:
            return step.cursor < len(step.items)
        more = plan.until is not None and bool(plan.until.render(Names(self.state, frame.scope)))
        if more and plan.max_iterations is not None and step.cursor >= plan.max_iterations:
            message = f"`while` still holds after {step.cursor} iterations (max_iterations)"
            self.failed(step, "max_iterations", message)
        return more

    def completed_loop(self, step: StepState) -> None:
        """Turn the iterations' outputs into lists."""
        outputs: dict[str, Any] = {"count": step.cursor}
        for name in step.plan.binds:
            outputs[name] = [result.get(name) for result in step.results]
        step.results = []
        self.completed(step, outputs)

    def gave_up(self, step: StepState, frame: Frame) -> bool:
        """Whether the container fails, or is cancelled, now that its frames have closed."""
        error = step.failure or frame.failure
        if error is None and not self.stopped(step.frame):
            return False
        if error is None:
            self.change(step, Status.CANCELLED, Reason.CANCELLED)
            self.settled(step)
        else:
            self.fail(step, error)
        return True


# -- events ---------------------------------------------------------------------------------


def _on_completed(move: _Transition, event: Event) -> None:
    step = move.state.steps[event.step or ""]
    move.completed(step, dict(event.data["outputs"]))


def _on_failed(move: _Transition, event: Event) -> None:
    step = move.state.steps[event.step or ""]
    step.outputs = event.data.get("outputs") or None
    move.failed(step, event.data["type"], event.data["message"])


def _on_suspended(move: _Transition, event: Event) -> None:
    step = move.state.steps[event.step or ""]
    step.wait = event.data
    step.due = event.data.get("until")
    step.signal = event.data.get("signal")
    if move.stopped(step.frame) or step.stopping:
        step.stopping = True
        move.failed(step, "cancelled", "stopped while it was about to wait")
        return
    move.change(step, Status.WAITING, Reason.SIGNAL if step.signal else Reason.TIMER)
    if step.due is not None:
        move.commands.append(Arm(step.key, step.attempt, "wake", step.due))
    move.commands.extend(_timeout_of(step))
    sent = move.state.signals.get(step.signal or "")
    if sent:
        _answer(move, step, sent.pop(0))


def _on_due(move: _Transition, event: Event) -> None:
    timer: TimerName = event.data["timer"]
    if timer == "deadline":
        state = move.state
        seconds = state.plan.timeout / 1000
        message = f"the execution took longer than its timeout of {seconds:g} s"
        state.frame.failure = Failure(step=None, type="timeout", message=message)
        state.failure = state.failure or state.frame.failure
        move.stop_running(state.frame, Reason.TIMED_OUT)
        move.quiet.append(state.frame)
        return
    step = move.state.steps[event.step or ""]
    if timer == "timeout":
        _timed_out(move, step)
    elif timer == "retry":
        if move.state.paused_at is not None:
            move.state.held.append(step)
        else:
            move.start(step)
    elif step.signal is not None:
        move.failed(step, "timeout", f"no signal {step.signal!r} came in time")
    else:
        move.completed(step, dict(step.wait.get("outputs") or {}))


def _timed_out(move: _Transition, step: StepState) -> None:
    seconds = (step.plan.timeout or 0) / 1000
    move.end_inside(step, Reason.TIMED_OUT)
    move.commands.extend(_stop(step, force=False))
    move.failed(step, "timeout", f"took longer than its timeout of {seconds:g} s")


def _on_signal(move: _Transition, event: Event) -> None:
    name, payload = event.data["name"], event.data.get("payload")
    for step in move.state.active_steps():
        if step.status is Status.WAITING and step.signal == name:
            _answer(move, step, payload)
            return
    move.state.signals.setdefault(name, []).append(payload)


def _answer(move: _Transition, step: StepState, payload: Any) -> None:  # ruff: ignore[any-type]  # a JSON value
    refused = isinstance(payload, Mapping) and payload.get("approved") is False
    if step.wait.get("approval") and refused:
        by = payload.get("by") or "somebody"
        move.failed(step, "rejected", f"{by} did not approve: {payload.get('comment') or '-'}")
        return
    move.completed(step, {**(step.wait.get("outputs") or {}), "payload": payload})


def _on_cancel(move: _Transition, event: Event) -> None:
    state = move.state
    state.cancelling = True
    state.status = Status.RUNNING
    state.held.clear()
    if event.data.get("force"):
        for step in list(state.frame.steps.values()):
            move.end_inside(step, Reason.CANCELLED, force=True)
            if step.status in ACTIVE:
                move.commands.extend(_stop(step, force=True))
                move.change(step, Status.CANCELLED, Reason.CANCELLED)
    else:
        move.stop_running(state.frame, Reason.CANCELLED)
    state.paused_at = None
    move.quiet.append(state.frame)
    for step in state.active_steps():
        move.quiet.extend(step.frames.values())


def _on_pause(move: _Transition, event: Event) -> None:
    state = move.state
    state.paused_at = event.at if state.paused_at is None else state.paused_at
    state.restarting = bool(event.data.get("restart"))
    if not state.restarting:
        state.status = Status.PAUSED
        move.changes.append(Change(None, Status.PAUSED))


def _on_resume(move: _Transition, event: Event) -> None:
    state = move.state
    held, state.held = state.held, []
    state.deadline += event.at - (state.paused_at or event.at)
    state.paused_at = None
    if not state.restarting:
        state.status = Status.RUNNING
        move.changes.append(Change(None, Status.RUNNING))
    state.restarting = False
    move.commands.append(Arm(None, 0, "deadline", state.deadline))
    for step in held:
        if step.status is Status.WAITING:
            move.start(step)
        else:
            move.ready.append(step)


_HANDLERS: Mapping[EventType, Callable[[_Transition, Event], None]] = {
    EventType.COMPLETED: _on_completed,
    EventType.FAILED: _on_failed,
    EventType.SUSPENDED: _on_suspended,
    EventType.DUE: _on_due,
    EventType.SIGNAL: _on_signal,
    EventType.CANCEL: _on_cancel,
    EventType.PAUSE: _on_pause,
    EventType.RESUME: _on_resume,
}

_STARTED: Mapping[str, Callable[[_Transition, StepState], None]] = {
    "condition": _Transition.start_condition,
    "parallel": _Transition.start_parallel,
    "loop": _Transition.start_loop,
}

_CLOSED: Mapping[str, Callable[[_Transition, StepState, Frame], None]] = {
    "condition": _Transition.closed_condition,
    "parallel": _Transition.closed_parallel,
    "loop": _Transition.closed_loop,
}


# -- values ---------------------------------------------------------------------------------


def bind(step: StepState, outputs: Mapping[str, Any]) -> None:
    """Make the variables of a completed step (LANGUAGE, "Values").

    `outputs: [a, b]` binds those keys; one name whose key is absent binds the whole result;
    without `outputs`, those the action declares are bound.
    """
    names, plan = step.frame.scope.names, step.plan
    if plan.explicit and len(plan.binds) == 1 and plan.binds[0] not in outputs:
        names[plan.binds[0]] = dict(outputs)
        return
    for name in plan.binds:
        names[name] = outputs.get(name)
    if plan.open_outputs:
        names.update(outputs)


def _missing(step: StepState, outputs: Mapping[str, Any]) -> str | None:
    plan = step.plan
    if not plan.explicit or len(plan.binds) == 1 or plan.type in {"loop", "condition", "parallel"}:
        return None
    absent = [name for name in plan.binds if name not in outputs]
    if not absent:
        return None
    given = ", ".join(sorted(outputs)) or "nothing"
    return f"the result has no {', '.join(absent)}; it has {given}"


def _gave(step: StepState, frame: Frame) -> dict[str, Any]:
    """What one iteration gives for each of the loop's `outputs`."""
    last = frame.steps[frame.block.steps[-1].id].outputs
    names = frame.scope.names
    return {name: names.get(name, last) for name in step.plan.binds}


def _items(value: Any) -> list[Any]:  # ruff: ignore[any-type]  # a value of the language
    """A list as it is; an object as its entries, `{key, value}`."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [{"key": key, "value": item} for key, item in value.items()]
    kind = "null" if value is None else type(value).__name__
    raise ExpressionError(f"over: a list or an object is needed, not {kind}")


def _output(state: ExecutionState, output: OutputPlan, names: Names) -> Any:  # ruff: ignore[any-type]  # a value
    if output.step is not None:
        source = state.steps.get(output.step)
        if source is None or source.status is not Status.COMPLETED:
            return None
    value = output.template.render(names)
    if value is not None and output.type is not None and not fits(value, output.type):
        raise ExpressionError(f"{output.type} is declared, but the value is {type(value).__name__}")
    return value


def _more_branches(step: StepState) -> bool:
    return step.plan.type == "parallel" and step.cursor < len(step.plan.blocks)


def _stop(step: StepState, *, force: bool) -> Iterator[Stop]:
    """Containers hold nothing themselves; who waits for a timer or signal has nothing to end."""
    busy = step.status is Status.RUNNING or step.reason == Reason.SUBFLOW
    if busy and not step.plan.nested:
        yield Stop(step.key, step.attempt, force)
