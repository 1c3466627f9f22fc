"""Rows that come packed into one, where together they are longer than a row may be."""

import sqlite3

from sqlalchemy import Connection

from controller.store.dialect import is_sqlite
from controller.store.ledger_claims import claim
from controller.store.ledger_executions import create
from tests.store.sample import NOW, new

LONGEST = 20_000
"""Bytes of a value, for this test; SQLite's own bound is a thousand million."""


def test_what_is_too_long_together_is_claimed_all_the_same(tx: Connection) -> None:
    """A claim that failed would fail for ever, and nothing would be executed any more."""
    given = {"text": "x" * (LONGEST // 4)}
    for number in range(9):
        create(tx, new(f"e{number}", NOW + number, inputs=given))
    driver = tx.connection.driver_connection
    if is_sqlite(tx):
        assert isinstance(driver, sqlite3.Connection)
        driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
    claimed = claim(tx, "me", lease_until=NOW + 1, now=NOW, limit=9)
    assert [each.inputs for each in claimed] == [given] * 9
