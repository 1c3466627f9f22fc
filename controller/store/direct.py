"""A database as it is: opened without making, migrating or changing anything.

For those who examine it, and mend it, in the foreground of a command: every verb is a transaction
on the caller's own thread. Whoever writes here is alone (see `doctor/mend.py`).
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, StatementError

from controller.core.problem import Refused
from controller.store.connecting import Engines, connect, parse_url, place, sqlite_path
from controller.store.dialect import file_damage, file_size
from controller.store.failures import is_no_value, problem_of
from controller.store.opening import HEAD, absent, check_file, recorded_revision, translated
from controller.store.tables import Transaction
from controller.store.wal import cut_back

T = TypeVar("T")
P = ParamSpec("P")


class Direct:
    """An open database. Made by `open`.

    Attributes:
        path: The SQLite file, or None on PostgreSQL.
        where: The database as messages name it.
        revision: Of its schema.
    """

    def __init__(self, engines: Engines, path: Path | None, where: str, revision: str) -> None:
        self.path = path
        self.where = where
        self.revision = revision
        self._engines = engines

    @classmethod
    @contextmanager
    def open(cls, url: str) -> Generator[Self]:
        """Open the database as it is, of whatever schema up to ours.

        Raises:
            NotFound: There is none.
            Refused: It is not a database of ours, newer than we are, read-only, damaged, ….
            Unavailable: It does not answer now.
        """
        parsed = parse_url(url)
        path, where = sqlite_path(parsed), place(parsed)
        if path is not None:
            check_file(path, create=False)
        engines = connect(parsed, 1)
        try:
            with translated(where), engines.reader.connect() as tx, tx.begin():
                revision = recorded_revision(tx, where)
            if revision is None:
                raise absent(where)
            yield cls(engines, path, where, revision)
        finally:
            engines.reader.dispose()
            engines.writer.dispose()

    @property
    def is_current(self) -> bool:
        """Whether its schema is ours; nothing but its revision may be asked for otherwise."""
        return self.revision == HEAD

    @property
    def size(self) -> int:
        """Bytes of what SQLite reads through for its own check; 0 on PostgreSQL."""
        return self.read(file_size)

    def read(
        self, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run the verb on a snapshot; it cannot write. `ValueError`: what it finds is no value."""
        with self._transaction(self._engines.reader) as tx:
            return verb(tx, *args, **kwargs)

    def write(
        self, verb: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run the verb in a transaction; durable when it returns. `ValueError`: see `read`."""
        if not self.is_current:
            raise Refused(f"{self.where} has an older schema", reason="older-schema")
        with self._transaction(self._engines.writer) as tx:
            return verb(tx, *args, **kwargs)

    @contextmanager
    def _transaction(self, engine: Engine) -> Generator[Transaction]:
        with translated(self.where), engine.connect() as tx, tx.begin():
            try:
                yield tx
            except StatementError as error:
                if isinstance(error, DBAPIError) and _is_away(error, self.where):
                    raise
                raise ValueError(str(error.orig)) from error

    def damage(self, *, indexes: bool) -> list[str]:
        """What SQLite finds wrong with its file; with `indexes`, also with them."""
        return self.read(file_damage, indexes=indexes)

    def make_indexes(self) -> None:
        """Make every index of a SQLite file anew, from its table."""
        self.write(lambda tx: tx.exec_driver_sql("REINDEX"))

    def cut_back(self) -> bool:
        """Move SQLite's log into the file and empty it; False: somebody else is reading it."""
        with translated(self.where):
            return cut_back(self._engines.writer)


def _is_away(error: DBAPIError, where: str) -> bool:
    """Whether it is about the database, and not about what stands in it."""
    return not is_no_value(error) and problem_of(error, where) is not None
