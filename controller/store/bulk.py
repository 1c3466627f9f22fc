"""Many rows in few statements.

A driver gives up Python's lock for each statement it executes, and must wait to get it back: for
milliseconds where the loop's thread has much to do. A hundred rows in one statement wait once; in
a hundred statements (`executemany` is no less) they wait a hundred times, whatever the database
itself needs for them. Of sizes there are few, so that both drivers find each statement prepared.

Many are read as one row, by keys that are one parameter: `all_rows` of `kept.py`, and `among` of
`dialect.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table
from sqlalchemy.exc import IntegrityError

from controller.store import dialect, failures

SIZES = (256, 64, 32, 16, 8, 7, 6, 5, 4, 3, 2, 1)
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


class Change(NamedTuple):
    """How rows that are there are changed, each by what is given for it.

    Attributes:
        table: Its name.
        given: Name and type of each value that is given for a row, in order: `status TEXT`.
        to: `column = given.name, …`.
        where: Which row that is; no two are given for the same.
    """

    table: str
    given: tuple[str, ...]
    to: str
    where: str


def insert_rows(tx: Connection, insertion: Insertion, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert; a row that collides, and may not, fails all of them."""
    for size, values in _shares(rows):
        dialect.execute_text(tx, _statement(tx.dialect.name, insertion, size), values)


def insert_new(
    tx: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> set[Any]:
    """Insert those whose unique keys are free; the first columns of those that were inserted."""
    if len(rows) > 1:
        dialect.execute_text(tx, "SAVEPOINT new", ())
        try:
            insert_rows(tx, into(table, columns), rows)
        except IntegrityError as error:
            if not failures.is_collision(error):
                raise
            dialect.execute_text(tx, "ROLLBACK TO SAVEPOINT new", ())
        else:
            return {row[0] for row in rows}
    one = _statement(tx.dialect.name, _insertion(table, columns, None), 1)
    return {row[0] for row in rows if dialect.execute_text(tx, one, row)}


def insert_missing(
    tx: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert those whose unique keys are free."""
    insert_rows(tx, _insertion(table, columns, None), rows)


def upsert(
    tx: Connection,
    table: Table,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    *,
    keep: tuple[str, ...] = (),
) -> None:
    """Insert; a row whose primary key is there is overwritten, except for the columns in `keep`.

    No two of the rows have the same key.
    """
    insert_rows(tx, _insertion(table, columns, keep), rows)


def change_rows(tx: Connection, change: Change, rows: Sequence[tuple[Any, ...]]) -> int:
    """Change; how many were."""
    return sum(
        dialect.execute_text(tx, _changing(tx.dialect.name, change, size), values)
        for size, values in _shares(rows)
    )


def _shares(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The rows of each statement, in order: how many, and all their values."""
    at = 0
    for size in SIZES:
        while len(rows) - at >= size:
            yield size, tuple(chain.from_iterable(rows[at : at + size]))
            at += size


@cache
def into(table: Table, columns: tuple[str, ...]) -> Insertion:
    """An insertion of these columns, in which none collides."""
    return Insertion(_into(table, columns), len(columns))


@cache
def _insertion(table: Table, columns: tuple[str, ...], keep: tuple[str, ...] | None) -> Insertion:
    """An insertion of these columns; `keep` None: a row that is there stays as it is."""
    into = _into(table, columns)
    if keep is None:
        return Insertion(into, len(columns), "ON CONFLICT DO NOTHING")
    keys = [f'"{column.name}"' for column in table.primary_key]
    stay = {*keys, *(f'"{each}"' for each in keep)}
    changed = [f"{each} = excluded.{each}" for each in _quoted(columns) if each not in stay]
    update = f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(changed)}"
    return Insertion(into, len(columns), update)


def _into(table: Table, columns: tuple[str, ...]) -> str:
    return f"{table.name} ({', '.join(_quoted(columns))})"


def _quoted(columns: tuple[str, ...]) -> list[str]:
    return [f'"{each}"' for each in columns]  # some are words of SQL


@cache
def _statement(name: str, insertion: Insertion, size: int) -> str:
    marks = dialect.marks(name)
    values = ", ".join(_row(islice(marks, insertion.columns)) for _ in range(size))
    return f"INSERT INTO {insertion.into} VALUES {values} {insertion.conflict}"  # ruff: ignore[hardcoded-sql-expression]  # all of it is ours


@cache
def _changing(name: str, change: Change, size: int) -> str:
    """The first row says of what types the others are, the columns of `VALUES` have numbers."""
    marks = dialect.marks(name)
    split = [each.rpartition(" ") for each in change.given]
    first = _row(f"CAST({mark} AS {of})" for (_, _, of), mark in zip(split, marks, strict=False))
    others = (_row(islice(marks, len(split))) for _ in range(size - 1))
    named = ", ".join(f"column{at} AS {each[0]}" for at, each in enumerate(split, 1))
    given = f"SELECT {named} FROM (VALUES {', '.join([first, *others])}) AS listed"  # ruff: ignore[hardcoded-sql-expression]  # all of it is ours
    return f"UPDATE {change.table} SET {change.to} FROM ({given}) AS given WHERE {change.where}"  # ruff: ignore[hardcoded-sql-expression]  # all of it is ours


def _row(values: Iterable[str]) -> str:
    return f"({', '.join(values)})"
