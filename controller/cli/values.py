"""Values on the command line: JSON as it stands, from a file (`@FILE`) or stdin (`-`); times."""

import sys
from pathlib import Path
from typing import Any

import click

SHOWN = 100
"""Characters of a line that are shown where it is wrong."""


class Json(click.ParamType[Any]):
    """Any JSON value."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # ruff: ignore[any-type]  # a JSON value
        """Read and parse it; wrong use, with the place, when it is no JSON."""
        from pydantic_core import from_json  # ruff: ignore[import-outside-top-level]  # start-up time

        text = self._text(str(value), param, ctx)
        try:
            found = from_json(text, allow_inf_nan=False)
        except ValueError as error:
            self.fail(f"not JSON: {_pointed(text, str(error))}", param, ctx)
        if (twice := _twice(text)) is not None:
            self.fail(f"the name {twice!r} is there twice in one object", param, ctx)
        return found

    def _text(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if value == "-":
            return sys.stdin.buffer.read()
        if not value.startswith("@"):
            return value.encode(errors="surrogateescape")
        try:
            return Path(value[1:]).read_bytes()
        except OSError as error:
            self.fail(f"cannot read {value[1:]}: {error.strerror}", param, ctx)


class JsonObject(Json):
    """A JSON object: values by name."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """As `Json.convert`; anything but an object is wrong use, too."""
        found = super().convert(value, param, ctx)
        if not isinstance(found, dict):
            self.fail('must be a JSON object, such as {"name": "value"}', param, ctx)
        return found


class Moment(click.ParamType[int]):
    """A time, ISO 8601, in UTC unless it has another offset; a date alone is its first moment."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Epoch milliseconds; wrong use when it is no time."""
        from zoneinfo import ZoneInfo  # ruff: ignore[import-outside-top-level]  # start-up time

        from controller.core.timetable import moment_of  # ruff: ignore[import-outside-top-level]  # start-up time

        found = moment_of(str(value), ZoneInfo("UTC"), ())
        if not isinstance(found, int):
            self.fail(f"{found.message}; write it as 2026-12-31T09:00:00Z", param, ctx)
        return found


class Reading(click.ParamType[str]):
    """A time as it was written, of whatever zone is given beside it."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """The same text; wrong use when it is no time, as with `Moment`."""
        Moment().convert(value, param, ctx)
        return str(value)


def _twice(text: bytes) -> str | None:
    """A name that an object of this JSON has more than once: one value would hide the other."""
    import json  # ruff: ignore[import-outside-top-level]  # start-up time

    found: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            found.extend(name for name in names if names.count(name) > 1)

    json.loads(text, object_pairs_hook=look, parse_int=str, parse_float=str)
    return found[0] if found else None


def _pointed(text: bytes, message: str) -> str:
    """A parser's message, its column counted in characters, with the line below and a caret."""
    what, _, place = message.rpartition(" at line ")
    number, _, offset = place.partition(" column ")
    lines = text.split(b"\n")
    if not (number.isdigit() and offset.isdigit()) or not 0 < int(number) <= len(lines):
        return message
    line = lines[int(number) - 1].decode(errors="replace")
    before = len(lines[int(number) - 1][: max(int(offset) - 1, 0)].decode(errors="replace"))
    begin = max(0, before - SHOWN // 2)
    shown = line[begin : begin + SHOWN]
    caret = f"{' ' * (before - begin)}^"
    return f"{what} at line {number} column {before + 1}\n    {shown}\n    {caret}"


params_option = click.option(
    "--params",
    "-p",
    "inputs",
    type=JsonObject(),
    metavar="JSON",
    help="Inputs: a JSON object, @FILE, or - for stdin.",
)
