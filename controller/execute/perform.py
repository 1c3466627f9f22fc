"""From a planned step to its action, and from whatever happens there to one result or failure."""

import asyncio
import weakref
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from controller.core.definition import Action, Parameter
from controller.core.expression import (
    ExpressionError,
    Scope,
    Template,
    compile_template,
    to_plain,
)
from controller.core.inputs import check_inputs, fits
from controller.core.plan import StepPlan
from controller.core.problem import Refused
from controller.core.shelltext import ShellText, compile_shell
from controller.execute.action import ActionFailed, Call, Registry, Result, Suspended
from controller.execute.scripts import Script, Scripts
from controller.store.values import storable

if TYPE_CHECKING:
    from controller.core.cel import Type
    from controller.core.problem import Problem

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
            result = self._call(step.action or "", call, inputs)
            return _guarded(result) if isinstance(result, Coroutine) else _plain(result)
        except (Exception, SystemExit) as error:
            raise failure_of(error) from error

    async def close(self) -> None:
        """Give back what actions hold between calls; none may be in progress."""
        for action in self._registry.in_use.values():
            close = getattr(action, "close", None)
            if close is not None:
                await close()
        self._scripts.close()

    def _call(
        self, name: str, call: Call, inputs: dict[str, Any]
    ) -> Result | Coroutine[Any, Any, Result]:
        """A built-in action, with what it says it takes."""
        action = self._registry.get(name)
        if not action.signature.open_inputs:
            inputs = _checked(action.signature.inputs, inputs)
        return action.perform(call, inputs)

    async def _defined(self, definition: Action, call: Call, given: dict[str, Any]) -> Result:
        """An action from YAML: inputs checked, run, outputs checked."""
        work = self._run(definition, call, _checked(definition.inputs, given))
        if definition.timeout is not None:
            work = _within(definition.timeout, call, work)
        result = await work
        return _complete(definition, result) if isinstance(result, dict) else result

    async def _run(self, definition: Action, call: Call, inputs: dict[str, Any]) -> Result:
        run = definition.run
        _, template, shell = self._prepare(definition)
        names = {**inputs, "inputs": inputs}
        script = Script(definition.env, inputs, sandbox=definition.sandbox)
        if run.kind == "python":
            return await self._scripts.python(call, run.script or "", script)
        if shell is not None:
            text, env = shell.render(names)
            return await self._scripts.shell(call, text, replace(script, env={**script.env, **env}))
        values = template.render(names) if template is not None else {}
        result = self._call(run.kind, call, values)
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


def _checked(parameters: tuple[Parameter, ...], given: dict[str, Any]) -> dict[str, Any]:
    """The inputs with defaults; what is wrong with them is a failure."""
    inputs, problems = check_inputs(parameters, given)
    if problems:
        raise ActionFailed("invalid_inputs", "; ".join(each.message for each in problems))
    return inputs


def _complete(definition: Action, result: dict[str, Any]) -> dict[str, Any]:
    """The result, which has every declared output, with its type or null."""
    for output in definition.outputs:
        if output.name not in result:
            message = f"`{definition.name}` declares the output `{output.name}` and did not give it"
            raise ActionFailed("bad_output", message)
        value = result[output.name]
        if value is not None and not fits(value, output.type or "any"):
            message = f"the output `{output.name}` of `{definition.name}` is no {output.type}"
            raise ActionFailed("bad_output", message)
    return result


async def _within(timeout: int, call: Call, work: Coroutine[Any, Any, Result]) -> Result:  # ruff: ignore[async-function-with-timeout]  # by our clock
    """The same work, cancelled after `timeout` milliseconds."""
    task = asyncio.current_task()
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        if task is not None:
            task.cancel()

    timer = call.clock.call_later(timeout, expire)
    try:
        return await work
    except asyncio.CancelledError:
        if not expired or (task is not None and task.uncancel() > 0):
            raise
        message = f"the action took longer than its timeout of {timeout / 1000:g} s"
        raise ActionFailed("timeout", message) from None
    finally:
        timer.cancel()


def _guarded(work: Coroutine[Any, Any, Result]) -> Coroutine[Any, Any, Result]:
    """The same work, which fails with `ActionFailed` only."""
    guard = _guard(work)
    weakref.finalize(guard, work.close)  # whoever closes the guard unstarted closes the work
    return guard


async def _guard(work: Coroutine[Any, Any, Result]) -> Result:
    """The one place where whatever an action raises becomes its failure."""
    try:
        return _plain(await work)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ActionFailed("CancelledError", "the action cancelled itself") from None
    except (Exception, SystemExit) as error:
        raise failure_of(error) from error


def _plain(result: Any) -> Result:  # ruff: ignore[any-type]  # whatever the action gave
    """A result as it will be read back from its checkpoint: JSON, and nothing that is like it."""
    if not isinstance(result, Suspended):
        return _outputs(result)
    given: tuple[object, object] = result.until, result.signal
    if not (isinstance(given[0], int | None) and isinstance(given[1], str | None)):
        message = f"an action cannot wait until {given[0]!r}, for the signal {given[1]!r}"
        raise ActionFailed("bad_output", message)
    return replace(result, outputs=_outputs(result.outputs))


def _outputs(given: Any) -> dict[str, Any]:  # ruff: ignore[any-type]  # whatever the action gave
    if not isinstance(given, dict):
        kind = type(given).__name__
        raise ActionFailed("bad_output", f"an action gives an object of outputs, not {kind}")
    try:
        outputs: dict[str, Any] = to_plain(given)
    except ExpressionError as error:
        raise ActionFailed("bad_output", f"the outputs cannot be recorded: {error}") from None
    return outputs


def failure_of(error: BaseException) -> ActionFailed:
    """Whatever was raised, as a failure that can be recorded: text, and outputs that are JSON."""
    if isinstance(error, ActionFailed):
        kind, message, outputs = error.type, error.message, error.outputs
    elif isinstance(error, ExpressionError):
        kind, message, outputs = "expression", str(error), {}
    elif isinstance(error, Refused):
        kind, message, outputs = error.reason, str(error), {}
    else:
        kind = type(error).__name__
        message, outputs = str(error) or kind, {}
    try:
        outputs = _outputs(outputs)
    except ActionFailed as wrong:
        message, outputs = f"{message} ({wrong.message})", {}
    return ActionFailed(storable(str(kind)), storable(str(message)), outputs)
