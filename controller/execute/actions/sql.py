"""`sql`: one statement, with parameters only; SQLite files, and PostgreSQL where its driver is."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from controller.execute.action import BUILT_IN, ActionFailed, Call, Result
from controller.execute.scripts import Scripts

MOST_ROWS = 10_000
WAIT = 30


class Sql:
    """See `BUILT_IN["sql"]`."""

    signature = BUILT_IN["sql"]

    async def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Execute the statement and commit: `rows` as objects, and how many there are."""
        del call
        url, query = inputs["url"], inputs["query"]
        parameters = inputs.get("parameters") or {}
        limit = min(inputs.get("max_rows") or MOST_ROWS, MOST_ROWS)
        if not isinstance(parameters, dict | list):
            raise ActionFailed("invalid_inputs", "`parameters` is an object or a list")
        if url.startswith("sqlite:///"):
            path = url.removeprefix("sqlite:///")
            return await asyncio.to_thread(_sqlite, path, query, parameters, limit)
        if url.startswith(("postgresql://", "postgres://")):
            return await asyncio.to_thread(_postgres, url, query, parameters, limit)
        raise ActionFailed("invalid_inputs", "`url` begins with sqlite:/// or postgresql://")


def _sqlite(
    path: str, query: str, parameters: Mapping[str, Any] | Sequence[Any], limit: int
) -> Result:
    try:
        with closing(sqlite3.connect(path, timeout=WAIT)) as connection, connection:
            cursor = connection.execute(query, parameters)
            return _rows(cursor, limit)
    except sqlite3.Error as error:
        raise ActionFailed("sql", str(error)) from None


def _postgres(
    url: str, query: str, parameters: Mapping[str, Any] | Sequence[Any], limit: int
) -> Result:
    try:
        import psycopg  # noqa: PLC0415  # an extra
    except ImportError:
        message = "PostgreSQL needs the extra: pip install 'windlass[postgres]'"
        raise ActionFailed("not_found", message) from None
    try:
        with psycopg.connect(url, connect_timeout=WAIT) as connection:
            return _rows(connection.execute(query.encode(), parameters), limit)
    except psycopg.Error as error:
        raise ActionFailed("sql", str(error)) from None


def _rows(cursor: Any, limit: int) -> Result:  # noqa: ANN401  # two drivers' cursors
    if cursor.description is None:
        return {"rows": [], "row_count": cursor.rowcount}
    names = [column[0] for column in cursor.description]
    found = cursor.fetchmany(limit + 1)
    if len(found) > limit:
        raise ActionFailed("too_large", f"there are more than {limit} rows")
    rows = [dict(zip(names, map(_plain, row), strict=True)) for row in found]
    return {"rows": rows, "row_count": len(rows)}


def _plain(value: Any) -> Any:  # noqa: ANN401  # a value of a database
    if value is None or isinstance(value, str | int | float | bool | list | dict):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def build(_scripts: Scripts) -> Sql:
    """The action."""
    return Sql()
