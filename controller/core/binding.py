"""What results become: variables, the lists of loops, the outputs of the workflow."""

from collections.abc import Mapping
from typing import Any

from controller.core.execution import ExecutionState, Frame, Status, StepState
from controller.core.expression import ExpressionError, to_plain
from controller.core.inputs import fits
from controller.core.names import Names
from controller.core.plan import OutputPlan


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
    """What one iteration gives for each of the loop's `outputs`."""
    last = frame.steps[frame.block.steps[-1].id].outputs
    names = frame.scope.names
    return {name: names.get(name, last) for name in step.plan.binds}


def items_of(value: Any) -> list[Any]:  # ruff: ignore[any-type]  # a value of the language
    """A list as it is; an object as its entries, `{key, value}`."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [{"key": key, "value": item} for key, item in value.items()]
    kind = "null" if value is None else type(value).__name__
    raise ExpressionError(f"over: a list or an object is needed, not {kind}")


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
