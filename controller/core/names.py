"""What `${…}` sees at one place of an execution, found when it is asked for and never copied."""

from collections.abc import Iterator, Mapping
from typing import Any

from controller.core.execution import ExecutionState, Scope, Status


class Names(Mapping[str, Any]):
    """What `${…}` sees at one place: nearest scope first, then inputs, then the roots always there.

    Args:
        state: The execution.
        scope: Where the expression stands.
        secrets: Resolved when an action is called and never kept; empty for decisions.
    """

    __slots__ = ("_scope", "_secrets", "_state")

    def __init__(
        self, state: ExecutionState, scope: Scope, secrets: Mapping[str, str] | None = None
    ) -> None:
        self._state = state
        self._scope = scope
        self._secrets = {} if secrets is None else secrets

    def __getitem__(self, name: str) -> Any:  # ruff: ignore[any-type]  # a value of the language
        scope: Scope | None = self._scope
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        identity = self._state.identity
        if name in identity.inputs:
            return identity.inputs[name]
        if name in _ROOTS:
            return self._root(name)
        if name in self._state.plan.names:
            return None  # its step was skipped or failed: LANGUAGE, "its variables are null"
        raise KeyError(name)

    def _root(self, name: str) -> Any:  # ruff: ignore[any-type,too-many-return-statements]  # one root a line
        state = self._state
        match name:
            case "steps":
                return StepsView(state, self._scope)
            case "inputs":
                return state.identity.inputs
            case "execution":
                return {"id": state.identity.id, "started_at": state.identity.started_at}
            case "workflow":
                return {"name": state.identity.workflow, "version": state.plan.version}
            case "trigger":
                return state.identity.trigger
            case "secrets":
                return self._secrets
            case _:
                return dict(state.failure) if state.failure else None

    def __iter__(self) -> Iterator[str]:
        seen = dict.fromkeys(_ROOTS) | dict.fromkeys(self._state.identity.inputs)
        scope: Scope | None = self._scope
        while scope is not None:
            seen |= dict.fromkeys(scope.names)
            scope = scope.outer
        return iter(seen)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class StepsView(Mapping[str, Any]):
    """`steps.<id>`: `status`, `outputs`, `error`, `attempt`; the nearest step of that id."""

    __slots__ = ("_scope", "_state")

    def __init__(self, state: ExecutionState, scope: Scope) -> None:
        self._state = state
        self._scope = scope

    def __getitem__(self, step_id: str) -> dict[str, Any]:
        scope: Scope | None = self._scope
        while scope is not None:
            step = self._state.steps.get(scope.prefix + step_id)
            if step is not None:
                return {
                    "status": str(step.status),
                    "outputs": step.outputs or {},
                    "error": step.error,
                    "attempt": step.attempt,
                }
            scope = scope.outer
        if step_id in self._state.plan.steps:
            return {"status": str(Status.PENDING), "outputs": {}, "error": None, "attempt": 0}
        raise KeyError(step_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._state.plan.steps)

    def __len__(self) -> int:
        return len(self._state.plan.steps)


_ROOTS = ("inputs", "steps", "execution", "workflow", "trigger", "secrets", "error")
