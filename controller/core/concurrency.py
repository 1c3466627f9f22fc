"""The expression of `concurrency.key`: checked, evaluated, both in one scope.

A key is made before there is an execution: it stands on the inputs, and on `workflow`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from controller.core.definition import Workflow
from controller.core.expression import ExpressionError, Scope, Template, compile_template
from controller.core.problem import Path, Problem, Refused

if TYPE_CHECKING:
    from controller.core.cel import Type

KEY: Path = ("concurrency", "key")


def compile_key(workflow: Workflow) -> tuple[Template, list[Problem]]:
    """The key, and what is wrong with it; a name of a secret is known, and has no value."""
    types: dict[str, Type] = {item.name: item.type for item in workflow.inputs}
    roots: dict[str, Type] = {"inputs": "object", "workflow": "object", "secrets": "object"}
    members: dict[str, dict[str, Type]] = {
        "inputs": types,
        "workflow": {"name": "string", "version": "string"},
    }
    key = workflow.concurrency.key if workflow.concurrency is not None else None
    return compile_template(key, Scope({**types, **roots}, members), KEY)


def concurrency_key(workflow: Workflow, inputs: Mapping[str, Any]) -> str | None:
    """What executions that count together have in common; None: they do not count.

    Raises:
        Refused: The key has no value for these inputs.
    """
    if workflow.concurrency is None:
        return None
    if workflow.concurrency.key is None:
        return workflow.name
    template, problems = compile_key(workflow)
    if problems:  # recorded by an earlier version
        raise _without_value(workflow, problems[0].message)
    names = {"name": workflow.name, "version": workflow.version}
    try:
        value = template.render({**inputs, "inputs": inputs, "workflow": names})
    except ExpressionError as error:
        raise _without_value(workflow, str(error)) from None
    return f"{workflow.name}:{value}"


def _without_value(workflow: Workflow, why: str) -> Refused:
    message = f"workflow {workflow.name!r}: concurrency key: {why}"
    return Refused(message, reason="concurrency-key")
