"""Records as JSON has them, on the command line and over HTTP.

It is stable: names are the columns' own; a record's times are ISO 8601 in UTC with milliseconds
(`2026-01-01T00:00:00.000Z`), its durations are milliseconds; what users put in (inputs, outputs,
payloads) is as they put it.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any


def plain(value: Any) -> Any:  # ruff: ignore[any-type]  # any record
    """A record as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _field(each.name, getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


_TIME_WITHIN = {"trigger": "due_at", "commit": "committed_at", "held": "at"}
"""Fields that hold plain data, and which of that is a time of ours."""


def _field(name: str, value: Any) -> Any:  # ruff: ignore[any-type]  # any record's field
    if name in _TIME_WITHIN and isinstance(value, Mapping):
        key = _TIME_WITHIN[name]
        return plain(value) | ({key: iso(value[key])} if value.get(key) is not None else {})
    is_time = name in {"at", "timestamp", "counted_from"} or name.endswith(("_at", "_until"))
    return iso(value) if is_time and isinstance(value, int) else plain(value)


def iso(moment: int) -> str:
    """Epoch milliseconds as ISO 8601 in UTC."""
    text = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
