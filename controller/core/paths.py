"""Plain paths — `a.b[0].c`, `steps.my-step.outputs.x`, `a["any key"]` — and the walk along them.

A dash belongs to a name when a letter follows it without a space: `a.my-key` is a path, `a - b` and
`a-1` are not.
"""

import re
from collections.abc import Mapping
from typing import Any

Step = str | int

_NAME = r"[A-Za-z_][A-Za-z0-9_]*(?:-+[A-Za-z_][A-Za-z0-9_]*)*"
_PATH = re.compile(rf"{_NAME}(?:\.{_NAME}|\[[0-9]{{1,9}}\]|\[\"[^\"\\]*\"\]|\['[^'\\]*'\])*")
_STEP = re.compile(rf"\.?({_NAME})|\[([0-9]+)\]|\[[\"'](.*?)[\"']\]")
_WORDS = frozenset({"true", "false", "null", "in"})
SHOWN = 8
"""Keys that a message names."""


class Missing(Exception):
    """The path does not lead anywhere; the message says where it ends."""


def parse_path(text: str) -> tuple[Step, ...] | None:
    """The steps of a plain path, or None when the text is something else."""
    if not _PATH.fullmatch(text) or text in _WORDS:
        return None
    steps: list[Step] = []
    for name, index, key in _STEP.findall(text):
        steps.append(int(index) if index else name or key)
    return tuple(steps)


def walk(names: Mapping[str, Any], steps: tuple[Step, ...]) -> Any:  # ruff: ignore[any-type]  # a value of the language
    """The value at the end of a path; raises `Missing`."""
    try:
        value = names[steps[0]]  # type: ignore[index]  # the first step of a path is a name
    except KeyError:
        raise Missing(f"there is no `{steps[0]}`{_has(names)}") from None
    for position in range(1, len(steps)):
        step = steps[position]
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            raise Missing(_why(value, steps[:position], step)) from None
    return value


def show(steps: tuple[Step, ...]) -> str:
    """A path as text."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def _why(value: Any, so_far: tuple[Step, ...], step: Step) -> str:  # ruff: ignore[any-type]  # a value of the language
    where = show(so_far)
    if value is None:
        return f"`{where}` is null, so it has no `{step}`"
    if isinstance(value, list):
        if isinstance(step, int):
            return f"`{where}` has {len(value)} items, so there is no [{step}]"
        return f"`{where}` is a list; take an item with [0]"
    if isinstance(value, Mapping):
        return f"`{where}` has no `{step}`{_has(value)}"
    return f"`{where}` is {kind_of(value)}, so it has no `{step}`"


def kind_of(value: Any) -> str:  # ruff: ignore[any-type]  # a value of the language
    """A value's kind with its article, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def _has(names: Mapping[str, Any]) -> str:
    keys = [str(key) for key, _ in zip(names, range(SHOWN + 1), strict=False)]
    if not keys:
        return "; it is empty"
    more = ", …" if len(keys) > SHOWN else ""
    return f"; there is {', '.join(keys[:SHOWN])}{more}"
