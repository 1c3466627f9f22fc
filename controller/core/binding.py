"""What results become: variables, the lists of loops, the outputs of the workflow."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from controller.core.execution import ExecutionState, Frame, Status, StepState
from controller.core.expression import ExpressionError, to_plain
from controller.core.inputs import fits
from controller.core.names import Names
from controller.core.paths import kind_of
from controller.core.plan import Block, OutputPlan, StepPlan


def bind(step: StepState, outputs: Mapping[str, Any]) -> None:
    """Make the variables of a completed step (LANGUAGE, "Values")."""
    step.frame.scope.names.update(_made(step.plan, outputs))


def _made(plan: StepPlan, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that come of a result.

    `outputs: [a, b]` binds those keys; one name whose key is absent binds the whole result;
    without `outputs`, those the action declares are bound.
    """
    if plan.explicit and len(plan.binds) == 1 and plan.binds[0] not in outputs:
        return {plan.binds[0]: dict(outputs)}
    found = {name: outputs.get(name) for name in plan.binds}
    if plan.open_outputs:
        found |= outputs
    return found


def forget(step: StepState) -> None:
    """The variables of a step that gave nothing are null."""
    step.frame.scope.names.update(dict.fromkeys(step.plan.binds))


def clear(frame: Frame, inside: Collection[StepState]) -> None:
    """What steps of a list held is as if it had never been met: it may not be met again.

    A variable that others make, too, is what the last of them made.
    """
    gone: set[str] = set()
    for step in inside:
        gone.update(step.plan.binds)
        step.reset(step.frame)
    if not gone:
        return
    names = frame.scope.names
    for name in gone:
        names.pop(name, None)
    while frame.owner is not None and frame.owner.plan.type != "loop":
        frame = frame.owner.frame
    for step in sorted(_makers(frame, gone), key=lambda each: each.completed_at or 0):
        made = _made(step.plan, step.outputs or {}) if step.status is Status.COMPLETED else {}
        names.update({name: made.get(name) for name in gone.intersection(step.plan.binds)})


def _makers(frame: Frame, names: set[str]) -> Iterator[StepState]:
    """Steps below that made some of these variables, or left them null."""
    for step in frame.steps.values():
        settled = step.completed_at is not None and step.status is not Status.CANCELLED
        if settled and not names.isdisjoint(step.plan.binds):
            yield step
        if step.plan.type != "loop":  # whose iterations have variables of their own
            for inner in step.frames.values():
                yield from _makers(inner, names)


def missing_outputs(step: StepState, outputs: Mapping[str, Any]) -> str | None:
    """Why a result does not have what `outputs` names; None: it does."""
    plan = step.plan
    if not plan.explicit or len(plan.binds) == 1 or plan.type in {"loop", "condition", "parallel"}:
        return None
    absent = [name for name in plan.binds if name not in outputs]
    if not absent:
        return None
    given = ", ".join(sorted(outputs)) or "nothing"
    return f"the result has no {', '.join(absent)}; it has {given}"


def gave(step: StepState, frame: Frame) -> dict[str, Any]:
    """What one iteration gives for each of the loop's `outputs`.

    A name that no step of the body makes is what its last step gave.
    """
    last = frame.steps[frame.block.steps[-1].id].outputs
    names = frame.scope.names
    return {
        name: names.get(name, None if _makes(frame.block, name) else last)
        for name in step.plan.binds
    }


def _makes(block: Block, name: str) -> bool:
    """Whether a step of a list may make the variable, in whichever branch it is."""
    for plan in block.steps:
        inner = () if plan.type == "loop" else plan.blocks
        if name in plan.binds or any(_makes(each, name) for each in inner):
            return True
    return False


def items_of(value: Any) -> list[Any]:  # ruff: ignore[any-type]  # a value of the language
    """A list as it is; an object as its entries, `{key, value}`."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [{"key": key, "value": item} for key, item in value.items()]
    raise ExpressionError(f"over: a list or an object is needed, and this is {kind_of(value)}")


def output_value(state: ExecutionState, output: OutputPlan, names: Names) -> Any:  # ruff: ignore[any-type]  # a value
    """A workflow's output; null where its step did not complete. Raises `ExpressionError`."""
    if output.step is not None:
        source = state.steps.get(output.step)
        if source is None or source.status is not Status.COMPLETED:
            return None
    value = to_plain(output.template.render(names))
    if value is not None and output.type is not None and not fits(value, output.type):
        raise ExpressionError(f"{output.type} is declared, but the value is {type(value).__name__}")
    return value
