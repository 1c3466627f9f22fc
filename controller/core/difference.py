"""What one version of a workflow says otherwise than another, for the person who reviews it.

Versions are compared as they are understood, not as they are written: the order of keys, a default
that is spelt out and another way to write a duration make no difference. What has an identity is
matched by it — steps by id wherever they stand, inputs and outputs by name, schedules by what they
say when — so that a change shows as one, and not as something lost and something found.
"""

import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any

from controller.core.definition import Action, Workflow

Json = dict[str, Any]
Detail = tuple[str, Any, Any]

CLIP = 60
"""Characters of a value that a sentence shows."""


class Subject(StrEnum):
    """What differs."""

    WORKFLOW = "workflow"
    INPUT = "input"
    OUTPUT = "output"
    STEP = "step"
    ERROR_HANDLER = "error_handler"
    SCHEDULE = "schedule"
    TRIGGER = "trigger"
    ACTION = "action"
    SUBFLOW = "subflow"


class Change(StrEnum):
    """How."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs.

    Attributes:
        name: Of a step with where it stands, such as `check.then_steps.notify`; of a schedule what
            it says when; empty for the workflow.
        details: (field, before, after) for each field that differs; of a move, `place`.
    """

    subject: Subject
    change: Change
    name: str
    details: tuple[Detail, ...] = ()


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """What differs between the contents of two versions (`core/content.py`), in their order."""
    old, new = _workflow(before), _workflow(after)
    found: list[Difference] = []
    for field in _FIELDS:
        if old[field] != new[field]:
            details = tuple(_fields(field, old[field], new[field]))
            found.append(Difference(Subject.WORKFLOW, Change.CHANGED, "", details))
    found += _matched(Subject.INPUT, _named(old["inputs"]), _named(new["inputs"]))
    found += _matched(Subject.OUTPUT, _named(old["outputs"]), _named(new["outputs"]))
    found += _triggers(old["triggers"], new["triggers"])
    found += _steps(old["steps"], new["steps"])
    found += _handler(old["error_handler"], new["error_handler"])
    found += _matched(Subject.ACTION, _actions(before), _actions(after))
    found += _matched(Subject.SUBFLOW, before["subflows"], after["subflows"])
    return tuple(found)


def sentence(difference: Difference) -> str:
    """One difference in a line."""
    what = str(difference.subject).replace("_", " ")
    if difference.name:
        what = f"{what} {difference.name}"
    if difference.change in {Change.ADDED, Change.REMOVED}:
        return f"{what}: {difference.change}"
    said = ", ".join(
        f"{field} {shown(field, before)} → {shown(field, after)}"
        for field, before, after in difference.details
    )
    return f"{what}: {'moved, ' if difference.change is Change.MOVED else ''}{said}"


def shown(field: str, value: Any) -> str:  # ruff: ignore[any-type]  # a JSON value
    """A value in a sentence: short, and a duration with its unit."""
    if value is None:
        return "none"
    if field.rsplit(".", 1)[-1] in _DURATIONS and isinstance(value, int):
        return f"{value} ms"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CLIP else f"{text[: CLIP - 1]}…"


_FIELDS = (
    "version", "description", "status", "labels", "metadata", "timeout", "concurrency", "retention",
)  # fmt: skip
_DURATIONS = {"timeout", "delay", "max_delay", "catchup"}
_NESTED = (
    ("condition", "then_steps"), ("condition", "else_steps"), ("loop", "steps"),
)  # fmt: skip


def _workflow(content: Mapping[str, Any]) -> Json:
    return Workflow.model_validate(content["workflow"]).model_dump(mode="json", by_alias=True)


def _actions(content: Mapping[str, Any]) -> dict[str, Json]:
    return {
        name: Action.model_validate(document).model_dump(mode="json", by_alias=True)
        for name, document in content["actions"].items()
    }


def _named(listed: Iterable[Json]) -> dict[str, Json]:
    return {each["name"]: each for each in listed}


def _matched(
    subject: Subject, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Difference]:
    """Things with an identity: those of one name are compared field by field."""
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            yield Difference(subject, Change.REMOVED, name)
        elif name not in old:
            yield Difference(subject, Change.ADDED, name)
        elif details := tuple(_fields("", old[name], new[name])):
            yield Difference(subject, Change.CHANGED, name, details)


def _fields(field: str, old: Any, new: Any) -> Iterator[Detail]:  # ruff: ignore[any-type]  # JSON values
    """The fields that differ, as deep as both sides have fields."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from _fields(f"{field}.{key}".lstrip("."), old.get(key), new.get(key))
    elif old != new:
        yield field, old, new


# -- triggers ---------------------------------------------------------------------------------


def _triggers(old: Sequence[Json], new: Sequence[Json]) -> Iterator[Difference]:
    yield from _paired(Subject.SCHEDULE, _scheduled(old), _scheduled(new), _when)
    others = [[each for each in side if each["type"] != "scheduled"] for side in (old, new)]
    yield from _paired(Subject.TRIGGER, others[0], others[1], _kind)


def _scheduled(triggers: Iterable[Json]) -> list[Json]:
    return [each["config"] for each in triggers if each["type"] == "scheduled"]


def _when(config: Json) -> str:
    return f"{json.dumps(config['cron'] or config['at'])} {config['timezone']}"


def _kind(trigger: Json) -> str:
    config = trigger["config"]
    return f"{trigger['type']} {config.get('event', '')}".strip()


def _paired(
    subject: Subject, old: Sequence[Json], new: Sequence[Json], name: Callable[[Json], str]
) -> Iterator[Difference]:
    """Things without an identity: those of one name are paired, then the others in their order."""
    left, right = list(old), list(new)
    pairs: list[tuple[Json, Json]] = []
    for same in (operator.eq, lambda a, b: name(a) == name(b), lambda _a, _b: True):
        for each in tuple(left):
            other = next((one for one in right if same(each, one)), None)
            if other is not None:
                left.remove(each)
                right.remove(other)
                pairs.append((each, other))
    for before, after in pairs:
        if details := tuple(_fields("", before, after)):
            yield Difference(subject, Change.CHANGED, name(before), details)
    for each in left:
        yield Difference(subject, Change.REMOVED, name(each))
    for each in right:
        yield Difference(subject, Change.ADDED, name(each))


# -- steps ------------------------------------------------------------------------------------


def _steps(old: Sequence[Json], new: Sequence[Json]) -> Iterator[Difference]:
    lists, fresh = dict(_lists("", old)), dict(_lists("", new))
    before, after = dict(_bodies(lists)), dict(_bodies(fresh))
    moved = set(_reordered(lists, fresh))
    for id_ in dict.fromkeys((*before, *after)):
        if id_ not in after:
            yield Difference(Subject.STEP, Change.REMOVED, _at(*before[id_], id_))
        elif id_ not in before:
            yield Difference(Subject.STEP, Change.ADDED, _at(*after[id_], id_))
        else:
            yield from _step(id_, before[id_], after[id_], moved=id_ in moved)


def _step(
    id_: str, old: tuple[str, Json], new: tuple[str, Json], *, moved: bool
) -> Iterator[Difference]:
    (place, body), (to, fresh) = old, new
    if place != to:
        where = (("place", place or "steps", to or "steps"),)
        yield Difference(Subject.STEP, Change.MOVED, _at(to, fresh, id_), where)
    elif moved:
        where = (("place", "its place in the list", "another one"),)
        yield Difference(Subject.STEP, Change.MOVED, _at(to, fresh, id_), where)
    if details := tuple(_fields("", body, fresh)):
        yield Difference(Subject.STEP, Change.CHANGED, _at(to, fresh, id_), details)


def _at(place: str, _body: Json, id_: str) -> str:
    return f"{place}.{id_}" if place else id_


def _lists(place: str, steps: Sequence[Json]) -> Iterator[tuple[str, Sequence[Json]]]:
    """Every list of steps by where it stands, the top list first."""
    yield place, steps
    for step in steps:
        here = f"{place}.{step['id']}".lstrip(".")
        for body, key in _NESTED:
            if step.get(body) is not None:
                yield from _lists(f"{here}.{key}", step[body][key])
        if step.get("parallel") is not None:
            for number, branch in enumerate(step["parallel"]["branches"]):
                yield from _lists(f"{here}.branches[{number}]", branch)


def _bodies(lists: Mapping[str, Sequence[Json]]) -> Iterator[tuple[str, tuple[str, Json]]]:
    """Each step by id: where it stands, and what it says without the steps inside it."""
    for place, steps in lists.items():
        for step in steps:
            yield step["id"], (place, _without_steps(step))


def _without_steps(step: Json) -> Json:
    bare = dict(step)
    for body, key in _NESTED:
        if bare.get(body) is not None:
            bare[body] = {name: value for name, value in bare[body].items() if name != key}
    if bare.get("parallel") is not None:
        branches = len(bare["parallel"]["branches"])
        bare["parallel"] = {**bare["parallel"], "branches": branches}
    return bare


def _reordered(
    old: Mapping[str, Sequence[Json]], new: Mapping[str, Sequence[Json]]
) -> Iterator[str]:
    """Steps of one list, before and after, that have another order among each other."""
    for place in old.keys() & new.keys():
        before = [each["id"] for each in old[place]]
        after = [each["id"] for each in new[place]]
        left = [each for each in before if each in set(after)]
        right = [each for each in after if each in set(before)]
        stayed: set[str] = set()
        for block in SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
            stayed.update(left[block.a : block.a + block.size])
        yield from (each for each in right if each not in stayed)


def _handler(old: Json | None, new: Json | None) -> Iterator[Difference]:
    sides = [{"": each} if each is not None else {} for each in (old, new)]
    for each in _matched(Subject.ERROR_HANDLER, sides[0], sides[1]):
        name = (new or old or {})["id"]
        yield Difference(each.subject, each.change, name, each.details)
