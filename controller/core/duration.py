"""Durations: a number of milliseconds, or text such as `30s`, `5m`, `1h30m`."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

LONGEST = 100 * 365 * 86_400_000
"""Milliseconds: a hundred years; longer is a mistake."""

PATTERN = r"^ *([0-9]+|([0-9]+(\.[0-9]+)? *(ms|s|m|h|d|w) *)+) *$"
"""Durations as text: digits alone are milliseconds."""

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(ms|s|m|h|d|w)")
_WHOLE = re.compile(PATTERN)
_TEXT = 100
"""Characters that no duration needs."""


def parse_duration(value: Any) -> int:  # ruff: ignore[any-type]  # what the document says
    """Milliseconds; raises `ValueError` with what to write instead."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a duration is a number of milliseconds or text such as 30s, 5m, 1h30m")  # ruff: ignore[type-check-without-type-error]  # pydantic wants ValueError
    if isinstance(value, str):
        found = _of_text(value)
    elif isinstance(value, float) and not value.is_integer():
        raise ValueError(f"a duration without a unit is whole milliseconds; {value:g}s are seconds")
    else:
        found = value
    if not 0 <= found <= LONGEST:
        raise ValueError("a duration is from 0 to a hundred years")
    return round(found)


def _of_text(text: str) -> float:
    """Milliseconds; never infinite, because the text is short."""
    if len(text) > _TEXT or not _WHOLE.fullmatch(text):
        shown = text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
        raise ValueError(f"{shown!r} is not a duration; write 500ms, 30s, 5m, 1h30m or 2d")
    if text.strip(" ").isdigit():
        return int(text)
    return sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text))


Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    WithJsonSchema({
        "oneOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": PATTERN},
        ]
    }),
]


def format_duration(milliseconds: int) -> str:
    """For people: `0.3 s`, `42 s`, `4 m 12 s`, `2 d 3 h`."""
    if milliseconds < 10_000:  # ruff: ignore[magic-value-comparison]  # under ten seconds, tenths matter
        return f"{milliseconds / 1000:.1f} s"
    seconds = milliseconds // 1000
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
