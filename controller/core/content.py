"""What a version of a workflow is made of: the documents that decide how it executes.

The workflow itself, the defined actions it calls, and the declared inputs and outputs of its
subflows. The digest of this content is the engine's own version: an execution is pinned to it, and
it compiles to the same plan whatever has changed around it since.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from controller.core.compile import compile_plan
from controller.core.definition import Action, Output, Parameter, Workflow
from controller.core.document import load_document
from controller.core.plan import Plan, Signature
from controller.core.policy import Policy


def content_of(
    workflow: Mapping[str, Any],
    actions: Mapping[str, Mapping[str, Any]],
    subflows: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of a version.

    Args:
        workflow: Its document, as plain data.
        actions: The documents of the defined actions it calls, by name.
        subflows: The documents of the workflows it starts, by name.
    """
    faces = {
        name: {"inputs": document.get("inputs") or [], "outputs": document.get("outputs") or []}
        for name, document in subflows.items()
    }
    return {"workflow": dict(workflow), "actions": dict(actions), "subflows": faces}


def workflow_in(content: Mapping[str, Any]) -> Workflow:
    """The workflow of a recorded content, which was valid when it was recorded."""
    definition, problems = load_document(content["workflow"])
    if not isinstance(definition, Workflow):
        message = f"a recorded definition does not load any more: {problems}"
        raise ValueError(message)  # ruff: ignore[type-check-without-type-error]  # the data is wrong
    return definition


def action_signature(action: Action) -> Signature:
    """What a caller of a defined action must know."""
    return Signature(action.name, action.inputs, action.outputs, definition=action)


def recompile(
    content: Mapping[str, Any], built_in: Mapping[str, Signature], policy: Policy, digest: str
) -> Plan:
    """The plan of a recorded content; its problems, if rules have changed since, do not matter."""
    actions = dict(built_in)
    for document in content["actions"].values():
        definition, _ = load_document(document)
        if isinstance(definition, Action):
            actions[definition.name] = action_signature(definition)
    subflows = {name: face_signature(name, face) for name, face in content["subflows"].items()}
    plan, _ = compile_plan(workflow_in(content), actions, subflows, policy, digest)
    return plan


def face_signature(name: str, face: Mapping[str, Iterable[Any]]) -> Signature:
    """What subflow steps must know of a workflow, from its declared inputs and outputs."""
    return Signature(
        name,
        tuple(Parameter.model_validate(item) for item in face["inputs"]),
        tuple(Output.model_validate(item) for item in face["outputs"]),
        recorded=True,
    )


def face_of(signature: Signature) -> dict[str, Any]:
    """Declared inputs and outputs as a document has them."""
    return {
        "inputs": [each.model_dump(mode="json", exclude_unset=True) for each in signature.inputs],
        "outputs": [each.model_dump(mode="json", exclude_unset=True) for each in signature.outputs],
    }
