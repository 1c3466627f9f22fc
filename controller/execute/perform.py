"""From a planned step to its action, and from whatever happens there to one result or failure."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from pydantic_core import to_json

from controller.core.definition import Action
from controller.core.expression import ExpressionError, Scope, Template, Type, compile_template
from controller.core.inputs import check_inputs
from controller.core.plan import Signature, StepPlan
from controller.core.problem import Problem
from controller.core.shelltext import ShellText, compile_shell
from controller.execute.action import ActionFailed, Call, Registry, Result, Suspended
from controller.execute.scripts import Script, Scripts

KEPT = 1_024
"""Compiled definitions that stay in memory."""


class Performer:
    """Performs actions.

    Args:
        registry: Built-in actions, by name.
        scripts: Runs the scripts of defined actions.
    """

    def __init__(self, registry: Registry, scripts: Scripts) -> None:
        self._registry = registry
        self._scripts = scripts
        self._prepared: dict[int, tuple[Action, Template | None, ShellText | None]] = {}

    def perform(
        self, step: StepPlan, call: Call, inputs: dict[str, Any]
    ) -> Result | Coroutine[Any, Any, Result]:
        """The result, or a coroutine for it; raises, now or when awaited, only `ActionFailed`."""
        try:
            if step.definition is not None:
                return _guarded(self._defined(step.definition, call, inputs))
            action = self._registry.get(step.action or "")
            _check(action.signature, inputs)
            result = action.perform(call, inputs)
        except Exception as error:  # noqa: BLE001  # whatever an action raises is its failure
            raise _failure(error) from error
        return _guarded(result) if isinstance(result, Coroutine) else result

    async def close(self) -> None:
        """Give back what actions hold between calls."""
        for action in self._registry.in_use.values():
            close = getattr(action, "close", None)
            if close is not None:
                await close()

    async def _defined(self, definition: Action, call: Call, given: dict[str, Any]) -> Result:
        """An action from YAML: inputs checked, run, outputs checked."""
        inputs, problems = check_inputs(definition.inputs, given)
        if problems:
            raise ActionFailed("invalid_inputs", "; ".join(each.message for each in problems))
        if definition.timeout is None:
            result = await self._run(definition, call, inputs)
        else:
            result = await _within(definition.timeout, call, self._run(definition, call, inputs))
        if isinstance(result, Suspended):
            return result
        missing = [each.name for each in definition.outputs if each.name not in result]
        if missing:
            message = f"`{definition.name}` declares {', '.join(missing)}, and did not give it"
            raise ActionFailed("bad_output", message)
        return result

    async def _run(self, definition: Action, call: Call, inputs: dict[str, Any]) -> Result:
        run = definition.run
        _, template, shell = self._prepare(definition)
        names = {**inputs, "inputs": inputs}
        if run.kind == "python":
            script = Script((), definition.env, inputs, sandbox=definition.sandbox)
            return await self._scripts.python(call, run.script or "", script)
        if shell is not None:
            text, env = shell.render(names)
            script = Script((), {**definition.env, **env}, inputs, sandbox=definition.sandbox)
            return await self._scripts.shell(call, text, script)
        action = self._registry.get(run.kind)
        values = template.render(names) if template is not None else {}
        _check(action.signature, values)
        result = action.perform(call, values)
        return await result if isinstance(result, Coroutine) else result

    def _prepare(self, definition: Action) -> tuple[Action, Template | None, ShellText | None]:
        """Its script or inputs, compiled once for as long as the definition is in use."""
        found = self._prepared.get(id(definition))
        if found is None or found[0] is not definition:
            if len(self._prepared) >= KEPT:
                self._prepared.clear()
            found = (definition, *self._compile(definition))
            self._prepared[id(definition)] = found
        return found

    def _compile(self, definition: Action) -> tuple[Template | None, ShellText | None]:
        types: dict[str, Type] = {each.name: each.type for each in definition.inputs}
        scope = Scope(names={**types, "inputs": "object"}, members={"inputs": types})
        run = definition.run
        problems: list[Problem] = []
        template: Template | None = None
        shell: ShellText | None = None
        if run.kind == "shell":
            shell, problems = compile_shell(run.script or "", scope, ())
        elif run.kind != "python":
            literal_names = self._registry.get(run.kind).signature.literal
            literal = {name: run.inputs[name] for name in literal_names & run.inputs.keys()}
            given = {name: value for name, value in run.inputs.items() if name not in literal}
            template, problems = compile_template(given, scope, (), literal=literal)
        if problems:
            raise ActionFailed("definition", problems[0].message)
        return template, shell


def _check(signature: Signature, inputs: Mapping[str, Any]) -> None:
    """Required inputs are there; what a value must be is the action's own concern."""
    for parameter in signature.inputs:
        if parameter.required and inputs.get(parameter.name) is None:
            message = f"`{signature.name}` needs `{parameter.name}`, and it is null"
            raise ActionFailed("invalid_inputs", message)


async def _within(timeout: int, call: Call, work: Coroutine[Any, Any, Result]) -> Result:
    """The same work, cancelled after `timeout` milliseconds."""
    task = asyncio.current_task()
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        if task is not None:
            task.cancel()

    timer = call.clock.call_at(call.clock.now() + timeout, expire)
    try:
        return await work
    except asyncio.CancelledError:
        if not expired or (task is not None and task.uncancel() > 0):
            raise
        message = f"the action took longer than its timeout of {timeout / 1000:g} s"
        raise ActionFailed("timeout", message) from None
    finally:
        timer.cancel()


async def _guarded(work: Coroutine[Any, Any, Result]) -> Result:
    """The one place where whatever an action raises becomes its failure."""
    try:
        result = await work
        if isinstance(result, dict):
            to_json(result)
    except Exception as error:  # noqa: BLE001  # whatever an action raises is its failure
        raise _failure(error) from error
    return result


def _failure(error: Exception) -> ActionFailed:
    if isinstance(error, ActionFailed):
        return error
    if isinstance(error, ExpressionError):
        return ActionFailed("expression", str(error))
    return ActionFailed(type(error).__name__, str(error) or type(error).__name__)
