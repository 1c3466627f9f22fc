"""Expressions of `event` and `webhook` triggers, over an event: checked, evaluated."""

from collections.abc import Mapping
from typing import Any

from controller.core.definition import EventTrigger, WebhookTrigger
from controller.core.expression import (
    ExpressionError,
    Scope,
    compile_condition,
    compile_template,
)
from controller.core.problem import Path, Problem, Refused

_SCOPE = Scope(names={"event": "object"}, members={})


def check_occasion(trigger: EventTrigger | WebhookTrigger, path: Path) -> list[Problem]:
    """What is wrong with the expressions of a trigger, which is at `path` of its document."""
    config = trigger.config
    _, found = compile_template(dict(config.inputs), _SCOPE, (*path, "config", "inputs"))
    if isinstance(trigger, EventTrigger) and trigger.config.when is not None:
        found += compile_condition(trigger.config.when, _SCOPE, (*path, "config", "when"))[1]
    return found


def wanted_event(trigger: EventTrigger, event: str, data: Any) -> bool:  # ruff: ignore[any-type]  # a JSON value
    """What a trigger's `when` says of an event; raises `Refused`."""
    if trigger.config.when is None:
        return True
    condition, _ = compile_condition(trigger.config.when, _SCOPE, ())
    try:
        return bool(condition.render(_names(event, data)))
    except ExpressionError as error:
        raise Refused(f"event {event!r}: when: {error}", reason="event-inputs") from None


def event_inputs(inputs: Mapping[str, Any], event: str, data: Any) -> dict[str, Any]:  # ruff: ignore[any-type]  # a JSON value
    """The inputs an event or a request gives, by a trigger's expressions; raises `Refused`."""
    template, _ = compile_template(dict(inputs), _SCOPE, ())
    try:
        found: dict[str, Any] = template.render(_names(event, data))
    except ExpressionError as error:
        raise Refused(f"event {event!r}: inputs: {error}", reason="event-inputs") from None
    return found


def _names(name: str, data: Any) -> dict[str, Any]:  # ruff: ignore[any-type]  # a JSON value
    return {"event": {"name": name, "data": data}}
