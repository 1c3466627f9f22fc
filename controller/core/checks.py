"""What one document shows to be wrong beyond its fields' types."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from controller.core.inputs import check_parameters
from controller.core.problem import Path, Problem

if TYPE_CHECKING:
    from controller.core.definition import Action, Loop, Output, Schedule, Step, Workflow

BODY = ("action", "condition", "parallel", "loop", "subflow")
"""A step has the one of these that its `type` names."""


def check_workflow(workflow: "Workflow") -> Iterator[Problem]:
    """Everything a workflow's document shows by itself."""
    yield from check_parameters(workflow.inputs, ("inputs",))
    yield from _outputs(workflow.outputs)
    seen: dict[str, None] = {}
    yield from _steps(workflow.steps, ("steps",), seen)
    handler = workflow.error_handler
    if handler is not None:
        yield from _step(handler, ("error_handler",), seen)
        if handler.on_error == "goto" or handler.depends_on:
            message = "the error handler stands alone: it has nowhere to go and nothing to wait for"
            yield Problem("bad-value", message, ("error_handler",))
    for index, trigger in enumerate(workflow.triggers):
        if trigger.type == "scheduled":
            yield from _schedule(trigger.config, ("triggers", index, "config"))


def check_action(action: "Action") -> Iterator[Problem]:
    """Everything an action's document shows by itself."""
    yield from check_parameters(action.inputs, ("inputs",))
    yield from _outputs(action.outputs)
    for index, output in enumerate(action.outputs):
        if output.source is not None:
            message = "an action's outputs come from its result and have no `source`"
            yield Problem("unknown-field", message, ("outputs", index, "source"), at_key=True)
    for name in ("sandbox", "env"):
        if getattr(action, name) and action.run.script is None:
            message = (
                f"`{name}` is for scripts; `{action.run.kind}` is done by the controller itself"
            )
            yield Problem("unknown-field", message, (name,), "remove it", at_key=True)


def _schedule(schedule: "Schedule", path: Path) -> Iterator[Problem]:
    if schedule.cron is None and schedule.at is None:
        message = "the schedule says neither `cron` nor `at`"
        yield Problem("bad-schedule", message, path, 'add `cron: "0 10 * * *"`, or `at:` a time')
    if schedule.cron is not None and schedule.at is not None:
        message = "a schedule has either `cron` or `at`, not both"
        yield Problem("bad-schedule", message, (*path, "at"), "write two triggers", at_key=True)


def _outputs(outputs: "tuple[Output, ...]") -> Iterator[Problem]:
    seen: set[str] = set()
    for index, output in enumerate(outputs):
        if output.name in seen:
            message = f"the output `{output.name}` is there twice"
            yield Problem("duplicate-name", message, ("outputs", index, "name"))
        seen.add(output.name)


def _steps(steps: "tuple[Step, ...]", path: Path, seen: dict[str, None]) -> Iterator[Problem]:
    for index, step in enumerate(steps):
        yield from _step(step, (*path, index), seen)


def _step(step: "Step", path: Path, seen: dict[str, None]) -> Iterator[Problem]:
    if step.id in seen:
        message = f"the step id `{step.id}` is there twice"
        yield Problem(
            "duplicate-id", message, (*path, "id"), "ids are unique in the whole workflow"
        )
    seen[step.id] = None
    yield from _body(step, path)
    yield from _reaction(step, path)
    if step.condition is not None:
        here = (*path, "condition")
        yield from _steps(step.condition.then_steps, (*here, "then_steps"), seen)
        yield from _steps(step.condition.else_steps, (*here, "else_steps"), seen)
    if step.parallel is not None:
        for index, branch in enumerate(step.parallel.branches):
            yield from _steps(branch, (*path, "parallel", "branches", index), seen)
    if step.loop is not None:
        yield from _loop(step.loop, (*path, "loop"))
        yield from _steps(step.loop.steps, (*path, "loop", "steps"), seen)


def _body(step: "Step", path: Path) -> Iterator[Problem]:
    for name in BODY:
        given = getattr(step, name) is not None
        if name == step.type and not given:
            message = f"step `{step.id}` is of type `{name}` and has no `{name}`"
            yield Problem("missing-field", message, path, f"add `{name}:`")
        if name != step.type and given:
            message = f"step `{step.id}` is of type `{step.type}`, so `{name}` has no meaning"
            hint = f"write `type: {name}`, or remove `{name}`"
            yield Problem("unknown-field", message, (*path, name), hint, at_key=True)
    for index, name in enumerate(step.outputs):
        if name in step.outputs[:index]:
            message = f"the output `{name}` is there twice"
            yield Problem("duplicate-name", message, (*path, "outputs", index))
    if step.inputs and step.type not in {"action", "subflow"}:
        message = f"a step of type `{step.type}` takes no inputs"
        yield Problem("unknown-field", message, (*path, "inputs"), at_key=True)


def _reaction(step: "Step", path: Path) -> Iterator[Problem]:
    goes = step.on_error == "goto" or (step.retry is not None and step.retry.then == "goto")
    if goes and step.goto is None:
        message = f"step `{step.id}` goes elsewhere when it fails, and does not say where"
        yield Problem("missing-field", message, path, "add `goto: STEP`")
    if step.goto is not None and not goes:
        message = f"step `{step.id}` has a `goto` that nothing uses"
        hint = "write `on_error: goto`, or `then: goto` below `retry`"
        yield Problem("bad-value", message, (*path, "goto"), hint, at_key=True)


def _loop(loop: "Loop", path: Path) -> Iterator[Problem]:
    if loop.over is None and loop.while_ is None:
        message = "the loop says neither `over` nor `while`"
        yield Problem("missing-field", message, path, "add `over:` a list, or `while:` a condition")
    if loop.over is not None and loop.while_ is not None:
        message = "a loop has either `over` or `while`, not both"
        yield Problem("bad-value", message, (*path, "while"), at_key=True)
    if loop.while_ is not None and loop.parallel > 1:
        message = "the iterations of `while` come one after another"
        yield Problem("bad-value", message, (*path, "parallel"))
