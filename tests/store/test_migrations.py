"""The schema goes both ways, on each backend, and takes what is there with it."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, inspect, text

from controller.store import opening
from controller.store.connecting import parse_url
from tests.store.conftest import BACKENDS

if TYPE_CHECKING:
    from tests.postgres import Postgres


@pytest.fixture(params=BACKENDS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    """A connection to a database without tables."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        with server.empty() as url:
            yield from _connected(url)
    else:
        yield from _connected(f"sqlite:///{tmp_path / 'empty.db'}")


def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        yield connection
        connection.rollback()
    engine.dispose()


def _schema(tx: Connection) -> dict[str, Any]:
    """Columns, keys and indexes of every table of ours, in any order."""
    look = inspect(tx)
    found: dict[str, Any] = {}
    for table in set(look.get_table_names()) - {opening.SCHEMA_TABLE}:
        columns = {
            (each["name"], str(each["type"]), each["nullable"], _plain(each["default"]))
            for each in look.get_columns(table)
        }
        indexes = {
            (each["name"], tuple(each["column_names"]), bool(each["unique"]))
            for each in look.get_indexes(table)
        }
        keys = tuple(look.get_pk_constraint(table)["constrained_columns"])
        found[table] = columns, indexes, keys
    return found


def _plain(default: str | None) -> str | None:
    """A default as both databases mean it: PostgreSQL adds the type."""
    return None if default is None else re.sub(r"::\w+", "", default).strip("'")


def test_each_revision_can_be_undone(empty: Connection) -> None:
    """Up one revision and down again is where we were; up again, it is the same as before."""
    config = opening.migrations(empty)
    command.upgrade(config, opening.REVISIONS[0])
    for before, after in pairwise(opening.REVISIONS):
        was = _schema(empty)
        command.upgrade(config, after)
        became = _schema(empty)
        assert became != was
        command.downgrade(config, before)
        assert _schema(empty) == was
        command.upgrade(config, after)
        assert _schema(empty) == became


def test_what_is_there_stays(empty: Connection) -> None:
    """Rows of the first schema are there in the newest, with nothing in the columns they lacked."""
    config = opening.migrations(empty)
    command.upgrade(config, opening.REVISIONS[0])
    rows = "INSERT INTO sources (id, type, location, phase, revision) VALUES "
    empty.execute(text(rows + "('here', 'directory', '/srv', 'ready', 'r1')"))
    command.upgrade(config, opening.HEAD)
    asked = "SELECT id, revision, observed, failures FROM sources"
    assert empty.execute(text(asked)).all() == [("here", "r1", None, 0)]
    command.downgrade(config, opening.REVISIONS[0])
    assert empty.execute(text("SELECT id, revision FROM sources")).all() == [("here", "r1")]
