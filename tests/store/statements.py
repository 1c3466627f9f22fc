"""What a database is really asked."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, event

from controller.store import straight
from controller.store.dialect import is_sqlite


@contextmanager
def watched(tx: Connection) -> Generator[list[tuple[str, Any]]]:
    """Every statement executed inside the block, with its parameters.

    Of SQLite by its driver, which some are given directly: with the parameters in them.
    """
    seen: list[tuple[str, Any]] = []
    if is_sqlite(tx):
        driver: Any = tx.connection.driver_connection
        driver.set_trace_callback(lambda statement: seen.append((statement, ())))
        try:
            yield seen
        finally:
            driver.set_trace_callback(None)
        return

    def executed(_1: object, _2: object, statement: str, given: Any, *_: object) -> None:
        seen.append((statement, given[0] if isinstance(given, list) else given))

    execute = straight.Line._execute

    def executed_straight(line: straight.Line, statement: str, values: Sequence[Any]) -> Any:
        seen.append((statement, values))
        return execute(line, statement, values)

    event.listen(tx, "before_cursor_execute", executed)
    try:
        with patch.object(straight.Line, "_execute", executed_straight):
            yield seen
    finally:
        event.remove(tx, "before_cursor_execute", executed)
