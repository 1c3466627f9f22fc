"""Steps that hold steps: how a condition, a parallel and a loop begin, go on and end."""

from collections.abc import Mapping
from typing import Any

from controller.core.binding import gave, items_of
from controller.core.execution import Frame, Reason, Scope, Status, StepState
from controller.core.expression import ExpressionError
from controller.core.follow import more_branches
from controller.core.names import Names
from controller.core.plan import Block
from controller.core.transition import Closed, Started, Transition


def _enter(move: Transition, step: StepState, block: Block, scope: Scope, index: int) -> None:
    """Open one list of steps below a step."""
    frame = Frame(block, scope, step, index)
    step.frames[index] = frame
    step.open_frames += 1
    move.open(frame)


def _start_condition(move: Transition, step: StepState) -> None:
    """Choose a branch."""
    expression = step.plan.expression
    chosen = bool(expression.render(move.names(step))) if expression is not None else False
    step.items = [chosen]
    block = step.plan.blocks[0 if chosen else 1]
    if block.steps:
        _enter(move, step, block, step.frame.scope, 0)
    else:
        move.completed(step, {"result": chosen})


def _closed_condition(move: Transition, step: StepState, frame: Frame) -> None:
    """The branch has ended."""
    step.open_frames -= 1
    if _gave_up(move, step, frame):
        return
    move.completed(step, {"result": (step.items or [False])[0]})


def _start_parallel(move: Transition, step: StepState) -> None:
    """Open as many branches as may go at once."""
    for _ in range(min(step.plan.width, len(step.plan.blocks))):
        _next_branch(move, step)


def _next_branch(move: Transition, step: StepState) -> None:
    """Open the next branch."""
    index = step.cursor
    step.cursor += 1
    _enter(move, step, step.plan.blocks[index], step.frame.scope, index)


def _closed_parallel(move: Transition, step: StepState, frame: Frame) -> None:
    """A branch has ended: with `wait_all: false` the first to complete wins."""
    step.open_frames -= 1
    if not step.plan.wait_all and frame.failure is None and not move.stopped(frame):
        move.end_inside(step, Reason.BRANCH_WON)
        move.completed(step, {"branch": frame.index})
        return
    if step.failure is None and more_branches(step) and not move.stopped(step.frame):
        _next_branch(move, step)
        return
    if step.open_frames == 0 and not _gave_up(move, step, frame):
        move.completed(step, {})


def _start_loop(move: Transition, step: StepState) -> None:
    """Take the items, refuse too many, open the first iterations."""
    plan = step.plan
    step.items = None
    if plan.over is not None:
        step.items = items_of(plan.over.render(move.names(step)))
        if plan.max_iterations is not None and len(step.items) > plan.max_iterations:
            message = f"{len(step.items)} items are more than max_iterations {plan.max_iterations}"
            move.failed(step, "max_iterations", message)
            return
        if not step.items:
            _completed_loop(move, step)
            return
    step.results = [{} for _ in step.items or ()]
    width = min(plan.width, len(step.items)) if step.items is not None else 1
    for _ in range(width):
        _next_iteration(move, step)


def _next_iteration(move: Transition, step: StepState) -> None:
    """Open the next iteration, with its item and index as variables."""
    index = step.cursor
    step.cursor += 1
    outer = step.frame.scope
    scope = Scope(f"{outer.prefix}{step.plan.id}[{index}].", outer)
    if step.items is not None:
        scope.names[step.plan.item] = step.items[index]
    scope.names[f"{step.plan.item}_index"] = index
    _enter(move, step, step.plan.blocks[0], scope, index)


def _closed_loop(move: Transition, step: StepState, frame: Frame) -> None:
    """An iteration has ended: keep what it gave, then go on or complete."""
    step.open_frames -= 1
    del step.frames[frame.index]
    if step.failure is not None or move.stopped(step.frame):
        if step.open_frames == 0:
            _gave_up(move, step, frame)
        return
    if step.items is None:
        step.results.append({})
    step.results[frame.index] = gave(step, frame)
    try:
        more = _more_iterations(move, step, frame)
    except ExpressionError as error:
        move.failed(step, "expression", f"while: {error}")
        return
    if step.status is not Status.RUNNING:
        return
    if more:
        _next_iteration(move, step)
    elif step.open_frames == 0:
        _completed_loop(move, step)


def _more_iterations(move: Transition, step: StepState, frame: Frame) -> bool:
    """Whether there is an item left, or `while` still holds after the iteration."""
    plan = step.plan
    if step.items is not None:
        return step.cursor < len(step.items)
    more = plan.until is not None and bool(plan.until.render(Names(move.state, frame.scope)))
    if more and plan.max_iterations is not None and step.cursor >= plan.max_iterations:
        message = f"`while` still holds after {step.cursor} iterations (max_iterations)"
        move.failed(step, "max_iterations", message)
    return more


def _completed_loop(move: Transition, step: StepState) -> None:
    """Turn the iterations' outputs into lists."""
    outputs: dict[str, Any] = {"count": step.cursor}
    for name in step.plan.binds:
        outputs[name] = [result.get(name) for result in step.results]
    step.results = []
    move.completed(step, outputs)


def _gave_up(move: Transition, step: StepState, frame: Frame) -> bool:
    """Whether the container fails, or is cancelled, now that its frames have closed."""
    error = step.failure or frame.failure
    if error is None and not move.stopped(step.frame):
        return False
    if error is None:
        move.change(step, Status.CANCELLED, Reason.CANCELLED)
        move.settled(step)
    else:
        move.fail(step, error)
    return True


STARTED: Mapping[str, Started] = {
    "condition": _start_condition,
    "parallel": _start_parallel,
    "loop": _start_loop,
}
"""How each kind begins."""

CLOSED: Mapping[str, Closed] = {
    "condition": _closed_condition,
    "parallel": _closed_parallel,
    "loop": _closed_loop,
}
"""What each kind does when one of its lists has closed."""
