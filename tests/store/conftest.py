"""The store's conformance suite: what takes `store_url` or `tx` runs on each backend."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from controller.location import database_url
from controller.store.connecting import connect, parse_url
from controller.store.ledger_definitions import put_version
from controller.store.store import Store
from controller.store.tables import Transaction
from tests.store.sample import version

if TYPE_CHECKING:
    from tests.postgres import Postgres

BACKENDS = ["sqlite", "postgresql"]


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without rows, to be copied: migrating each time would take longest."""
    folder = tmp_path_factory.mktemp("empty")

    async def make() -> None:
        async with Store.open(database_url(folder), monotonic=time.monotonic):
            pass

    asyncio.run(make())
    return folder / "windlass.db"


@pytest.fixture
def database(tmp_path: Path, empty_file: Path) -> Path:
    """A SQLite file of the test's own."""
    path = tmp_path / "windlass.db"
    shutil.copy(empty_file, path)
    return path


@pytest.fixture(params=BACKENDS)
def store_url(request: pytest.FixtureRequest) -> str:
    """A database of the test's own, migrated and empty, on each backend."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    path: Path = request.getfixturevalue("database")
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: "Postgres") -> Iterator[str]:
    """A database of the test's own on PostgreSQL, migrated and empty."""
    with postgres.migrated() as url:
        yield url


@pytest.fixture
def tx(store_url: str) -> Iterator[Transaction]:
    """An open transaction that has the definition `d`; it is rolled back at the end."""
    engines = connect(parse_url(store_url), 1)
    with engines.writer.connect() as connection, connection.begin() as transaction:
        put_version(connection, version())
        yield connection
        transaction.rollback()
    engines.writer.dispose()
    engines.reader.dispose()
