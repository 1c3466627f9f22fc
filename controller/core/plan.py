"""A workflow made ready to execute: the graph of its steps, with every expression compiled.

A plan is immutable, shared by all executions of one digest, and says nothing about any of them.
`core/compile.py` makes it from a definition; `core/decide.py` walks it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from controller.core.definition import Action, Output, Parameter
from controller.core.expression import ExpressionError, Template
from controller.core.paths import kind_of
from controller.core.policy import Policy
from controller.core.retry import RetryPolicy
from controller.core.shelltext import ShellText

StepType = Literal["action", "condition", "parallel", "loop", "subflow"]
OnError = Literal["fail", "continue", "goto"]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a caller of an action (or of a subflow) must know.

    Attributes:
        open_inputs: Takes inputs of any name, and gives them back as outputs (`set`).
        shell: The input whose text is shell, where `${…}` becomes an environment variable.
        literal: Inputs whose text is code of another kind and is never interpolated.
        recorded: What it is given is recorded, or given to others: a secret may not be.
        definition: The document, for an action defined in YAML.
    """

    name: str
    inputs: tuple[Parameter, ...] = ()
    outputs: tuple[Output, ...] = ()
    open_inputs: bool = False
    shell: str | None = None
    literal: frozenset[str] = frozenset()
    recorded: bool = False
    definition: Action | None = None


@dataclass(frozen=True, slots=True)
class InputsPlan:
    """The inputs of a step: a template, and the one text that is shell."""

    template: Template
    shell_key: str | None = None
    shell_text: ShellText | None = None

    def render(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """The values to call with; raises `ExpressionError`."""
        values: dict[str, Any] = self.template.render(names)
        if self.shell_key is None or self.shell_text is None:
            return values
        script, environment = self.shell_text.render(names)
        given = {} if values.get("env") is None else values["env"]
        if not isinstance(given, dict):
            raise ExpressionError(f"`env` must be an object, and this is {kind_of(given)}")
        return {**values, self.shell_key: script, "env": {**given, **environment}}


@dataclass(slots=True, eq=False)
class StepPlan:
    """One step, compiled. `binds` are the variables it makes; see `bind` in core/decide.py."""

    id: str
    name: str
    type: StepType
    index: int
    needs: tuple[str, ...]
    dependents: tuple[str, ...] = ()
    when: Template | None = None
    inputs: InputsPlan | None = None
    binds: tuple[str, ...] = ()
    explicit: bool = False
    open_outputs: bool = False
    on_error: OnError = "fail"
    goto: str | None = None
    retry: RetryPolicy | None = None
    timeout: int | None = None
    idempotent: bool = True
    action: str | None = None
    definition: Action | None = None
    subflow: str | None = None
    blocks: tuple["Block", ...] = ()
    expression: Template | None = None  # of a condition
    over: Template | None = None
    until: Template | None = None  # `while:`, looked at after each iteration
    item: str = "item"
    max_iterations: int | None = None
    width: int = 1  # how many iterations, or branches, at once
    wait_all: bool = True

    @property
    def nested(self) -> bool:
        """It holds steps of its own."""
        return self.type in {"condition", "parallel", "loop"}


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A list of steps with their order as a graph. Every id in `needs` is in the same block."""

    steps: tuple[StepPlan, ...] = ()
    by_id: Mapping[str, StepPlan] = field(default_factory=dict)

    def below(self, step_id: str) -> frozenset[str]:
        """The step and all that depends on it, however far."""
        found = {step_id}
        front = [step_id]
        while front:
            for name in self.by_id[front.pop()].dependents:
                if name not in found:
                    found.add(name)
                    front.append(name)
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """One output of the workflow; null where the step it comes from did not complete."""

    name: str
    type: str | None
    template: Template
    step: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A workflow, compiled.

    Attributes:
        steps: Every step by its id, however deep; the error handler's too.
        names: Every variable that some step may bind.
        timeout: Of the whole execution, milliseconds.
        actions: The defined actions it calls, directly or through another one.
        subflows: The workflows it starts.
    """

    name: str
    version: str
    digest: str
    body: Block
    handler: Block | None
    steps: Mapping[str, StepPlan]
    names: frozenset[str]
    outputs: tuple[OutputPlan, ...]
    timeout: int
    policy: Policy
    actions: tuple[str, ...] = ()
    subflows: tuple[str, ...] = ()


def digest_of(content: Mapping[str, Any]) -> str:
    """The engine's own version of a definition: SHA-256 of its documents in canonical JSON."""
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
