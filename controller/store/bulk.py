"""Many rows in few statements.

A driver gives up Python's lock for each statement it executes, and must wait to get it back: for
milliseconds where the loop's thread has much to do. A hundred rows in one statement wait once; in
a hundred statements (`executemany` is no less) they wait a hundred times, whatever the database
itself needs for them. Of sizes there are few, so that both drivers find each statement prepared.
"""

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection

from controller.store import dialect

SIZES = (256, 64, 16, 4, 1)
"""Rows of one statement. The largest stays below the parameters that either database takes."""


class Insertion(NamedTuple):
    """What rows are inserted into, and what is done about those that are there.

    Attributes:
        into: `table (column, …)`.
        columns: How many columns.
        conflict: `ON CONFLICT …`, or nothing.
    """

    into: str
    columns: int
    conflict: str = ""


def insert_rows(tx: Connection, insertion: Insertion, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert; a row that collides fails all of them."""
    at = 0
    for size in SIZES:
        while len(rows) - at >= size:
            values = tuple(chain.from_iterable(rows[at : at + size]))
            statement = _statement(dialect.mark(tx), insertion, size)
            dialect.execute_text(tx, statement, values)
            at += size


@cache
def _statement(mark: str, insertion: Insertion, size: int) -> str:
    row = f"({', '.join([mark] * insertion.columns)})"
    values = ", ".join([row] * size)
    return f"INSERT INTO {insertion.into} VALUES {values} {insertion.conflict}"  # ruff: ignore[hardcoded-sql-expression]  # all of it is ours
