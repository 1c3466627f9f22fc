"""The state machine: events in, commands and changes out; every event is handled in this file.

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

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controller.core.containers import CLOSED, STARTED
from controller.core.execution import (
    ACTIVE,
    FINAL,
    RUNNING,
    Arm,
    Change,
    Command,
    Decision,
    Event,
    EventType,
    ExecutionState,
    Failure,
    Identity,
    Launch,
    Perform,
    Reason,
    Status,
    StepState,
    Stop,
    TimerName,
)
from controller.core.follow import stop_commands, timeout_of
from controller.core.plan import Plan
from controller.core.transition import Transition

_DUE = EventType.DUE


def begin(plan: Plan, identity: Identity) -> tuple[ExecutionState, Decision]:
    """A new state with its first steps started, as of `identity.started_at`."""
    state = ExecutionState(plan, identity)
    move = Transition(state, identity.started_at, STARTED, CLOSED)
    move.changes.append(Change(None, Status.RUNNING))
    move.commands.append(Arm(None, 0, "deadline", state.deadline))
    move.open(state.frame)
    move.settle_all()
    return state, Decision(move.commands, move.changes)


def decide(state: ExecutionState, event: Event) -> Decision:
    """Apply one event; an event that is no longer relevant changes nothing."""
    move = Transition(state, max(event.at, _earliest(state.identity)), STARTED, CLOSED)
    if relevant(state, event):
        _HANDLERS[event.type](move, event)
        move.settle_all()
    return Decision(move.commands, move.changes)


def fold(plan: Plan, identity: Identity, events: Iterable[Event]) -> ExecutionState:
    """The state after `events`, from the beginning: `decide` for each, but nobody is told."""
    state, _ = begin(plan, identity)
    move = Transition(state, identity.started_at, STARTED, CLOSED)
    earliest = _earliest(identity)
    for event in events:
        if relevant(state, event):
            move.at = max(event.at, earliest)
            _HANDLERS[event.type](move, event)
            move.settle_all()
            move.commands.clear()
            move.changes.clear()
    return state


def _earliest(identity: Identity) -> int:
    """What a retry keeps happened before it began: for its steps, that is when it begins."""
    return identity.started_at if "retry_of" in identity.trigger else 0


def relevant(state: ExecutionState, event: Event) -> bool:
    """Whether the event still means something; the worker does not record one that does not."""
    if state.status in FINAL:
        return False
    if event.step is None:
        return _concerns_all(state, event)
    step = state.steps.get(event.step)
    if step is None or step.attempt != event.attempt or step.status not in ACTIVE:
        return False
    if event.type is not _DUE:
        return step.status is RUNNING or step.reason == Reason.SUBFLOW
    return _waits(state, step, event.data["timer"])


def _waits(state: ExecutionState, step: StepState, timer: TimerName) -> bool:
    """`relevant` for a timer: the step waits for it, or can have taken too long."""
    retrying = step.reason == Reason.RETRY
    match timer:
        case "retry":
            return retrying and step.due is not None
        case "wake":
            return not retrying and step.status is Status.WAITING
        case _:
            held = step.plan.nested and state.paused_at is not None
            return not (retrying or held)


def _concerns_all(state: ExecutionState, event: Event) -> bool:
    """`relevant` for a wish, a signal or the deadline."""
    match event.type:
        case EventType.CANCEL:
            return not state.cancelling or bool(event.data.get("force"))
        case EventType.PAUSE:
            return not state.cancelling and (state.paused_at is None or state.restarting)
        case EventType.RESUME:
            return state.paused_at is not None
        case EventType.DUE:
            return can_be_late(state) and event.at >= state.deadline
        case _:
            return event.type in {EventType.SIGNAL, EventType.BROKEN}


def can_be_late(state: ExecutionState) -> bool:
    """Whether the deadline counts: it fires once, and once more for the error handler."""
    return not (state.cancelling or state.overdue) and state.paused_at is None


def waits_for(state: ExecutionState, signal: str) -> StepState | None:
    """The step that a signal of this name is for now; None: it is kept for one that will wait."""
    waiting = (step for step in state.active_steps() if step.status is Status.WAITING)
    return next((step for step in waiting if step.signal == signal), None)


def outstanding(state: ExecutionState) -> list[Command]:
    """What has to be done, or done again, to go on from `state` after a restart."""
    commands: list[Command] = [Arm(None, 0, "deadline", state.deadline)]
    for step in state.active_steps():
        if step.status is Status.WAITING:
            if step.due is not None:
                timer: TimerName = "retry" if step.reason == Reason.RETRY else "wake"
                commands.append(Arm(step.key, step.attempt, timer, step.due))
            if step.reason == Reason.SUBFLOW:
                if step.stopping:
                    commands.append(Stop(step.key, step.attempt, force=False))
                else:
                    commands.append(Launch(step.key, step.attempt))
        elif step.plan.type == "action":
            commands.append(Perform(step.key, step.attempt))
        commands.extend(timeout_of(step))
    return commands


# -- events ---------------------------------------------------------------------------------


def _on_completed(move: Transition, event: Event) -> None:
    step = move.state.steps[event.step or ""]
    move.completed(step, dict(event.data["outputs"]))


def _on_failed(move: Transition, event: Event) -> None:
    step = move.state.steps[event.step or ""]
    step.outputs = event.data.get("outputs") or None
    told = Failure(step=step.key, type=event.data["type"], message=event.data["message"])
    move.fail(step, step.failure or told)


def _on_suspended(move: Transition, event: Event) -> None:
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
    move.commands.extend(timeout_of(step))
    sent = move.state.signals.get(step.signal or "")
    if sent:
        _answer(move, step, sent.pop(0))


def _on_due(move: Transition, event: Event) -> None:
    timer: TimerName = event.data["timer"]
    if timer == "deadline":
        state = move.state
        seconds = state.plan.timeout / 1000
        message = f"the execution took longer than its timeout of {seconds:g} s"
        late = Failure(step=None, type="timeout", message=message)
        state.overdue = True
        state.frame.failure = state.frame.failure or late
        state.failure = state.failure or late
        move.stop_running(state.frame, Reason.TIMED_OUT)
        return
    step = move.state.steps[event.step or ""]
    if timer == "timeout":
        _timed_out(move, step)
    elif timer == "retry":
        if move.state.paused_at is not None:
            step.due = None  # it is held, once: it does not come due again
            move.state.held.append(step)
        else:
            move.start(step)
    elif step.signal is not None:
        move.failed(step, "timeout", f"no signal {step.signal!r} came in time")
    else:
        move.completed(step, dict(step.wait.get("outputs") or {}))


def _timed_out(move: Transition, step: StepState) -> None:
    """It fails when what runs of it has ended, as an action does."""
    seconds = (step.plan.timeout or 0) / 1000
    message = f"took longer than its timeout of {seconds:g} s"
    late = Failure(step=step.key, type="timeout", message=message)
    if step.status is Status.WAITING and step.reason != Reason.SUBFLOW:
        move.fail(step, late)
        return
    step.failure = step.failure or late
    move.commands.extend(stop_commands(step, force=False))
    for frame in list(step.frames.values()):
        move.stop_running(frame, Reason.TIMED_OUT)


def _on_signal(move: Transition, event: Event) -> None:
    name, payload = event.data["name"], event.data.get("payload")
    step = waits_for(move.state, name)
    if step is not None:
        _answer(move, step, payload)
    else:
        move.state.signals.setdefault(name, []).append(payload)


def _answer(move: Transition, step: StepState, payload: Any) -> None:  # ruff: ignore[any-type]  # a JSON value
    if step.wait.get("approval") and (why := _withheld(payload)) is not None:
        move.failed(step, "rejected", why)
        return
    move.completed(step, {**(step.wait.get("outputs") or {}), "payload": payload})


def _withheld(payload: Any) -> str | None:  # ruff: ignore[any-type]  # a JSON value
    """Why this is no approval; None: it is one. Nothing but `approved: true` is."""
    answer = payload if isinstance(payload, Mapping) else {}
    if answer.get("approved") is True:
        return None
    if answer.get("approved") is False:
        by = answer.get("by") or "somebody"
        return f"{by} did not approve: {answer.get('comment') or '-'}"
    return "the signal says neither `approved: true` nor `approved: false`"


def _on_cancel(move: Transition, event: Event) -> None:
    state = move.state
    state.cancelling = True
    state.status = Status.RUNNING
    state.held.clear()
    if event.data.get("force"):
        for step in list(state.frame.steps.values()):
            move.end_inside(step, Reason.CANCELLED, force=True)
            if step.status in ACTIVE:
                move.commands.extend(stop_commands(step, force=True))
                move.change(step, Status.CANCELLED, Reason.CANCELLED)
        move.quiet.append(state.frame)
    else:
        move.stop_running(state.frame, Reason.CANCELLED)
    state.paused_at = None


def _on_pause(move: Transition, event: Event) -> None:
    state = move.state
    state.paused_at = event.at if state.paused_at is None else state.paused_at
    state.restarting = bool(event.data.get("restart"))
    if not state.restarting:
        state.status = Status.PAUSED
        move.changes.append(Change(None, Status.PAUSED))
    if event.data.get("unbegun"):
        for step in list(state.active_steps()):
            if not step.plan.nested and (step.status is RUNNING or step.reason == Reason.SUBFLOW):
                _take_back(move, step)


def _take_back(move: Transition, step: StepState) -> None:
    """What has started and was not carried out starts when the pause is over: no try is burnt."""
    step.tries -= 1
    step.started_at = None
    move.change(step, Status.PENDING)
    move.state.held.append(step)


def _on_resume(move: Transition, event: Event) -> None:
    state = move.state
    held, state.held = state.held, []
    paused = event.at - (state.paused_at or event.at)
    state.deadline += paused
    state.paused_at = None
    if not state.restarting:
        state.status = Status.RUNNING
        move.changes.append(Change(None, Status.RUNNING))
    state.restarting = False
    move.commands.append(Arm(None, 0, "deadline", state.deadline))
    for step in state.active_steps():
        if step.plan.nested:  # what it holds was held
            step.since += paused
            move.commands.extend(timeout_of(step))
    for step in held:
        if step.status is Status.WAITING:
            move.start(step)
        else:
            move.ready.append(step)


def _on_broken(move: Transition, event: Event) -> None:
    state = move.state
    state.failure = Failure(step=None, type="bug", message=event.data["message"])
    state.error = dict(state.failure)
    for step in list(state.steps.values()):
        if step.status in ACTIVE:
            move.commands.extend(stop_commands(step, force=False))
            move.change(step, Status.CANCELLED, Reason.CANCELLED)
        elif step.status is Status.PENDING:
            move.change(step, Status.SKIPPED, Reason.FAILED_BEFORE)
    move.finish(Status.FAILED)
    move.quiet.clear()  # no list goes on, and no error handler


_HANDLERS: Mapping[EventType, Callable[[Transition, Event], None]] = {
    EventType.COMPLETED: _on_completed,
    EventType.FAILED: _on_failed,
    EventType.SUSPENDED: _on_suspended,
    EventType.DUE: _on_due,
    EventType.SIGNAL: _on_signal,
    EventType.CANCEL: _on_cancel,
    EventType.PAUSE: _on_pause,
    EventType.RESUME: _on_resume,
    EventType.BROKEN: _on_broken,
}
