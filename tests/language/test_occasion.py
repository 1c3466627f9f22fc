"""Expressions of event and webhook triggers are read with the file, not when an event comes."""

from pathlib import Path

import pytest

from controller.app import lint_directory
from controller.core.definition import EventConfig, EventTrigger
from controller.core.occasion import event_inputs, wanted_event
from controller.core.problem import Refused
from controller.settings import Settings

FILE = """\
name: w
triggers:
  - type: event
    config:
      event: arrived
      when: {when}
      inputs: {{size: "{size}"}}
  - type: webhook
    config:
      inputs: {{size: "{asked}"}}
inputs: [{{name: {kind}}}]
steps: [{{id: a, type: action, action: log, inputs: {{message: x}}}}]
"""

RIGHT = {
    "when": "event.data.size > 3",
    "size": "${event.data.size}",
    "asked": "${event.data.size}",
    "kind": "size",
}


def _found(folder: Path, **said: str) -> list[tuple[str, int, int]]:
    (folder / "w.yaml").write_text(FILE.format(**RIGHT | said))
    found = lint_directory(folder, Settings())
    return [(each.code, each.line, each.column) for each in found]


@pytest.mark.parametrize(
    ("said", "code", "line", "column"),
    [
        ({"when": "event.data.size >"}, "bad-expression", 6, 30),
        ({"when": "evnt.data.size > 3"}, "unknown-name", 6, 13),
        ({"when": "'3'"}, "not-boolean", 6, 13),
        ({"when": "inputs.size > 3"}, "unknown-name", 6, 13),
        ({"size": "${size}"}, "unknown-name", 7, 25),
        ({"asked": "${event.data.size +}"}, "bad-expression", 10, 42),
    ],
)
def test_a_mistake_is_found_in_the_file(
    tmp_path: Path, said: dict[str, str], code: str, line: int, column: int
) -> None:
    """With its place; `event` is all there is."""
    assert _found(tmp_path, **said) == [(code, line, column)]


@pytest.mark.parametrize(
    ("said", "code", "line", "column"),
    [
        ({"size": '3", sise: "${event.data.size}'}, "unknown-input", 7, 27),
        ({"asked": '3", sise: "${event.data.size}'}, "unknown-input", 10, 27),
        ({"size": "", "kind": "size, type: integer"}, "wrong-type", 7, 22),
        ({"kind": "size}, {name: weight, required: true"}, "missing-input", 7, 15),
        ({"size": "${event.data.size}", "kind": "size, type: integer"}, None, 0, 0),
        ({"size": "${event.data.size}", "kind": "size, required: true"}, None, 0, 0),
    ],
)
def test_what_a_trigger_gives_is_what_the_workflow_takes(
    tmp_path: Path, said: dict[str, str], code: str | None, line: int, column: int
) -> None:
    """A wrong name is found in the file; a computed value when it is known."""
    found = _found(tmp_path, **said)
    assert found[:1] == ([(code, line, column)] if code else [])


def test_a_trigger_that_gives_nothing_may_give_too_little(tmp_path: Path) -> None:
    """The problem stands where `inputs:` is missing."""
    text = FILE.format(**RIGHT | {"kind": "size, required: true"}).replace(
        '      inputs: {size: "${event.data.size}"}\n  - ', "  - ", 1
    )
    (tmp_path / "w.yaml").write_text(text)
    [found] = lint_directory(tmp_path, Settings())
    assert (found.code, found.line, found.hint) == ("missing-input", 5, "give `size`")


def test_what_a_schedule_gives_is_never_computed(tmp_path: Path) -> None:
    """Its inputs are given as they stand: there is no event yet."""
    text = FILE.format(**RIGHT | {"kind": "size, type: integer"}).replace(
        "type: webhook\n    config:\n", "type: scheduled\n    config:\n      cron: 0 3 * * *\n"
    )
    (tmp_path / "w.yaml").write_text(text)
    [found] = lint_directory(tmp_path, Settings())
    assert (found.code, found.line) == ("wrong-type", 11)


def test_what_is_right_is_no_problem(tmp_path: Path) -> None:
    """What is in an event is not known before it comes."""
    assert _found(tmp_path) == []
    assert _found(tmp_path, when="true") == []
    assert _found(tmp_path, when="${event.name == 'arrived' && has(event.data.size)}") == []


@pytest.mark.parametrize(("size", "wanted"), [(4, True), (3, False)])
def test_an_event_is_wanted_or_not(size: int, *, wanted: bool) -> None:
    """By what `when` says of it; then its inputs are taken from it."""
    config = EventConfig(event="arrived", when=RIGHT["when"], inputs={"size": RIGHT["size"]})
    trigger = EventTrigger(type="event", config=config)
    assert wanted_event(trigger, "arrived", {"size": size}) == wanted
    assert event_inputs(config.inputs, "arrived", {"size": size}) == {"size": size}
    with pytest.raises(Refused, match="event 'arrived': when: "):
        wanted_event(trigger, "arrived", {})
