"""JSON Schema of the definition language, for editors; made from the models."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from controller.core.definition import Action, Workflow

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def definition_schema() -> dict[str, Any]:
    """The schema of one document: a workflow or an action."""
    workflow, definitions = _schema(Workflow)
    action, more = _schema(Action)
    action["properties"]["run"] = _run_schema()
    definitions = {name: each for name, each in (definitions | more).items() if name != "Run"}
    workflow["properties"]["version"] = {
        **workflow["properties"]["version"],
        "type": ["string", "number"],
    }
    return {
        "$schema": DIALECT,
        "title": "Windlass definition",
        "if": {"properties": {"kind": {"const": "action"}}, "required": ["kind"]},
        "then": {"$ref": "#/$defs/Action"},
        "else": {"$ref": "#/$defs/Workflow"},
        "$defs": {**definitions, "Workflow": workflow, "Action": action},
    }


def _schema(model: type[Workflow] | type[Action]) -> tuple[dict[str, Any], dict[str, Any]]:
    schema = model.model_json_schema(
        by_alias=True, ref_template="#/$defs/{model}", schema_generator=GenerateJsonSchema
    )
    return schema, schema.pop("$defs", {})


def _run_schema() -> dict[str, Any]:
    script = {"type": "string", "minLength": 1}
    return {
        "description": "What it does: one of `python`, `shell`, or a built-in action.",
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {"python": script, "shell": script},
        "additionalProperties": {"type": ["object", "null"]},
    }
