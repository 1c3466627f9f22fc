"""A copy of a database that has seen real work: damaged by SQL, examined, mended, worked on."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Engine, NullPool, create_engine, text

from controller.clock import SystemClock
from controller.doctor.examine import Examination, Manner, around_of
from controller.doctor.finding import Finding, Report
from controller.execute.action import BUILT_IN
from controller.settings import Settings
from controller.store.connecting import parse_url
from controller.store.direct import Direct
from controller.store.lock import ControllerLock
from controller.store.records import NEVER

_SHARED: dict[str, Engine] = {}


def _share(engine: Engine) -> None:
    """What is compiled for one test, all have: to compile takes longer than to execute."""
    first = _SHARED.setdefault(engine.name, engine)
    engine.dialect = engine.pool._dialect = first.dialect
    engine._compiled_cache = first._compiled_cache


@dataclass
class Worked:
    """A copy.

    Attributes:
        ids: Its executions by what became of them.
    """

    settings: Settings
    ids: Mapping[str, str]
    engine: Engine
    database: Direct

    @classmethod
    @contextmanager
    def at(cls, settings: Settings, ids: Mapping[str, str]) -> Generator[Self]:
        """The copy at these settings."""
        engine = create_engine(parse_url(settings.url), poolclass=NullPool)
        with Direct.open(settings.url) as database:
            for each in database._engines[:2]:
                _share(each)
            yield cls(settings, ids, engine, database)

    @property
    def path(self) -> Path | None:
        """SQLite's file."""
        return None if self.settings.database_url else self.settings.state_dir / "windlass.db"

    def sql(self, *statements: str, **given: Any) -> list[tuple[Any, ...]]:
        """Do this to it, whatever its constraints say; the rows of the last statement.

        `:completed` and so on are its executions' ids, with `_` for what is no letter.
        """
        known = {name.replace("-", "_").replace(" ", "_"): each for name, each in self.ids.items()}
        rows: list[tuple[Any, ...]] = []
        with self.engine.connect() as tx:
            lax = "PRAGMA foreign_keys=OFF"
            tx.exec_driver_sql(lax if self.path else "SET session_replication_role = replica")
            for statement in statements:
                asked = text(statement)
                wanted = {each: (known | given)[each] for each in asked._bindparams}
                result = tx.execute(asked, wanted)
                rows = [tuple(row) for row in result] if result.returns_rows else []
            tx.commit()
        return rows

    def examine(self, *, full: bool = True, repair: bool = False) -> Report:
        """What is found wrong with it."""
        holder = ControllerLock(self.path or self.settings.state_dir, "test").holder()
        around = around_of(self.database, holder, SystemClock().now())
        manner = Manner(full=full, repair=repair)
        return Examination(self.database, BUILT_IN, around, manner).run()

    def found(self, *, full: bool = True) -> list[Finding]:
        """Everything that is wrong, in order."""
        return findings(self.examine(full=full))

    @contextmanager
    def controller(self, owner: str) -> Generator[None]:
        """A controller that is at work, as far as others see: it does nothing."""
        if self.path is not None:
            with ControllerLock(self.path, "controller", owner).acquire(0):
                yield
            return
        insert = "INSERT INTO leases VALUES (:name, :owner, :until)"
        self.sql(insert, name=f"controller/{owner}", owner=owner, until=NEVER)
        try:
            yield
        finally:
            self.sql("DELETE FROM leases")


def findings(report: Report) -> list[Finding]:
    """All that a report names."""
    return [each for tally in report.tallies.values() for each in tally.named]
