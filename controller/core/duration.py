"""Durations: a number of milliseconds, or text such as `30s`, `5m`, `1h30m`."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

LONGEST = 100 * 365 * 86_400_000
"""Milliseconds: a hundred years; longer is a mistake."""

PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$"

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(PATTERN)


def parse_duration(value: Any) -> int:  # noqa: ANN401  # what the document says
    """Milliseconds; raises `ValueError` with what to write instead."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a duration is a number of milliseconds or text such as 30s, 5m, 1h30m")  # noqa: TRY004  # pydantic wants ValueError
    if isinstance(value, str):
        text = value.strip().replace(" ", "")
        if text.isdigit():
            found = int(text) if len(text) < 20 else LONGEST + 1  # noqa: PLR2004  # digits of a sane number
        elif _WHOLE.match(text):
            found = round(sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text)))
        else:
            raise ValueError(f"{value!r} is not a duration; write 500ms, 30s, 5m, 1h30m or 2d")
    else:
        found = round(value) if value == value and abs(value) < LONGEST * 2 else LONGEST + 1  # noqa: PLR0124  # NaN
    if not 0 <= found <= LONGEST:
        raise ValueError("a duration is from 0 to a hundred years")
    return found


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
    if milliseconds < 10_000:  # noqa: PLR2004  # under ten seconds, tenths matter
        return f"{milliseconds / 1000:.1f} s"
    seconds = milliseconds // 1000
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
