"""Values as columns hold them: the same on both databases."""

import json
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import BigInteger, Dialect, Text, TypeDecorator
from sqlalchemy.types import TypeEngine


def decode(encoded: str | bytes) -> Any:  # ruff: ignore[any-type]  # JSON is any JSON value
    """The JSON value of a text; the fast parser first, the patient one for very deep values."""
    try:
        return from_json(encoded, cache_strings="keys")
    except ValueError:
        return json.loads(encoded)


def encode(value: object) -> str | None:
    """A JSON value as a column holds it; `bytes` are encoded already, None is NULL."""
    if value is None:
        return None
    return (value if isinstance(value, bytes) else to_json(value)).decode()


class Json(TypeDecorator[Any]):
    """JSON as text, on both databases: keys keep their order and an escaped NUL is allowed.

    See `encode`.
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok: bool | None = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """Encode."""
        del dialect
        return encode(value)

    def process_result_value(
        self,
        value: str | None,
        dialect: Dialect,
    ) -> Any:  # ruff: ignore[any-type]  # JSON is any JSON value
        """Decode."""
        del dialect
        return None if value is None else decode(value)


class Unsigned64(TypeDecorator[int]):
    """An inode: unsigned 64 bits, kept in a column that is signed."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = BigInteger
    cache_ok: bool | None = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """Fold the upper half into the negative numbers."""
        del dialect
        return value if value is None or value < 1 << 63 else value - (1 << 64)

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:
        """Unfold."""
        del dialect
        return value if value is None or value >= 0 else value + (1 << 64)


def storable(line: str) -> str:
    """A text both databases take: NUL and lone surrogates become the replacement character."""
    if "\0" in line:
        line = line.replace("\0", "\ufffd")
    return line if line.isascii() else line.encode("utf-8", "replace").decode()
