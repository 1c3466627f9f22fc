"""Between a record and its row: one field, one column, the same name."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from itertools import islice, starmap
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import (
    Boolean,
    Column,
    Executable,
    Select,
    Table,
    TypeDecorator,
    select,
    type_coerce,
)
from sqlalchemy.engine.default import DefaultDialect

from controller.store.tables import Transaction

T = TypeVar("T")

Row = tuple[Any, ...]
"""A record as a driver takes it: its values in their order, and JSON as text."""

CHUNK = 5_000
"""Values of one IN list: below the bound both databases put on the parameters of a statement."""


@cache
def names(kind: type) -> tuple[str, ...]:
    """The record's fields, which are its columns, in order."""
    named: tuple[str, ...] | None = getattr(kind, "_fields", None)
    return named if named is not None else tuple(each.name for each in fields(kind))


@cache
def columns(kind: type, table: Table) -> tuple[Column[Any], ...]:
    """The columns that make a record of this kind."""
    return tuple(table.c[name] for name in names(kind))


def pick(kind: type, table: Table) -> Select[Any]:
    """A select of just those columns."""
    return select(*columns(kind, table))


def pick_stored(kind: type, table: Table) -> Select[Any]:
    """A select of just those columns as `stored` made them: what `restored` takes."""
    return select(
        *(
            type_coerce(each, each.type.impl_instance).label(each.name)
            if isinstance(each.type, TypeDecorator)
            else each
            for each in columns(kind, table)
        )
    )


def every(
    tx: Transaction, kind: type[T], statement: Executable, given: dict[str, Any] | None = None
) -> list[T]:
    """All rows as records; `given` are the statement's parameters, if it names any."""
    return list(starmap(kind, tx.execute(statement, given).all()))


def one(tx: Transaction, kind: type[T], statement: Select[Any]) -> T | None:
    """The first row as a record, or None."""
    row = tx.execute(statement.limit(1)).first()
    return None if row is None else kind(*row)


def row_of(record: object) -> dict[str, Any]:
    """The record as a row to insert."""
    kind: type = type(record)
    return {name: getattr(record, name) for name in names(kind)}


def values_of(record: object) -> tuple[Any, ...]:
    """What makes the record again."""
    kind: type = type(record)
    return _values(kind)(record)


def stored(table: Table, record: object) -> Row:
    """The record as a driver takes it."""
    kind: type = type(record)
    values, decorated = _stored(kind, table)
    found = list(values(record))
    for place, column in decorated:
        if found[place] is not None:
            found[place] = column.process_bind_param(found[place], _ANY)
    return tuple(found)


def restored(kind: type[T], table: Table, row: Sequence[Any]) -> T:
    """The record of a row that `stored` made."""
    found = list(row)
    of: type = kind
    for place, column in _stored(of, table)[1]:
        found[place] = column.process_result_value(found[place], _ANY)
    for place in _truths(of, table):
        found[place] = bool(found[place])  # SQLite has numbers
    return kind(*found)


@cache
def _stored(
    kind: type, table: Table
) -> "tuple[attrgetter[Row], tuple[tuple[int, TypeDecorator[Any]], ...]]":
    """What gets a record's values, and the types that make something else of theirs, by place."""
    types = [table.c[name].type for name in names(kind)]
    decorated = [(place, of) for place, of in enumerate(types) if isinstance(of, TypeDecorator)]
    return _values(kind), tuple(decorated)


@cache
def _truths(kind: type, table: Table) -> tuple[int, ...]:
    """The places of what is true or false."""
    types = [table.c[name].type for name in names(kind)]
    return tuple(place for place, of in enumerate(types) if isinstance(of, Boolean))


@cache
def _values(kind: type) -> "attrgetter[Row]":
    return attrgetter(*names(kind))


_ANY = DefaultDialect()
"""Our types make the same of a value for either database."""


def chunks(values: Sequence[T], size: int = CHUNK) -> Iterator[list[T]]:
    """The values in lists short enough for one statement."""
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some
