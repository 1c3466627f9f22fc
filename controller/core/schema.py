"""JSON Schema of the definition language, for editors; made from the models.

It accepts every document that loads, and says what its fields mean. What it cannot say (unique ids,
the field that a step's type needs, expressions) is left to validation.
"""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from controller.core.definition import Action, Workflow

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def definition_schema() -> dict[str, Any]:
    """The schema of one document: a workflow, or an action if `kind` says so (draft 2020-12).

    One branch is chosen by `kind` instead of trying both, so that an editor complains about the
    field that is wrong and not about the choice.
    """
    workflow, definitions = _schema(Workflow)
    action, more = _schema(Action)
    action["properties"]["run"] = _run()
    version = {"anyOf": [{"type": "string"}, {"type": "number"}]}
    workflow["properties"]["version"] |= version
    workflow["properties"]["version"].pop("type")
    definitions = {name: each for name, each in (definitions | more).items() if name != "Run"}
    return {
        "$schema": DIALECT,
        "title": "Windlass definition",
        "if": {"properties": {"kind": {"const": "action"}}, "required": ["kind"]},
        "then": {"$ref": "#/$defs/Action"},
        "else": {"$ref": "#/$defs/Workflow"},
        "$defs": {**definitions, "Workflow": workflow, "Action": action},
    }


def _schema(model: type[Workflow | Action]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's schema, and those it refers to."""
    schema = model.model_json_schema(schema_generator=_Untitled)
    return schema, schema.pop("$defs", {})


class _Untitled(GenerateJsonSchema):
    """Without a title for each field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: object) -> bool:  # ruff: ignore[unused-method-argument]  # asked for each
        """No."""
        return False


def _run() -> dict[str, Any]:
    """What `run` looks like in a document; the model holds it in another shape."""
    script = {"type": "string", "pattern": r"\S", "description": "A script."}
    return {
        "description": "What it does: one of `python`, `shell`, or a built-in action.",
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {"python": script, "shell": script},
        "additionalProperties": {"type": ["object", "null"]},
    }
