"""From a claimed row to an execution in memory; many are made while their commit is waited for."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from controller.catalog import Catalog
from controller.core.execution import Failure
from controller.core.problem import Refused, Unavailable
from controller.execute.containing import fail
from controller.execute.host import Host
from controller.execute.running import Running
from controller.execute.taking import Taken
from controller.logs import get_log
from controller.store.records import ExecutionRecord

if TYPE_CHECKING:
    import asyncio

FEW = 20
"""Made in one turn of the loop: what they are made for may come meanwhile."""

log = get_log("windlass.execute")


class Maker:
    """Makes them.

    Args:
        host: The worker, whose they are.
    """

    def __init__(self, catalog: Catalog, host: Host) -> None:
        self._catalog = catalog
        self._host = host
        self._ready: dict[str, Running] = {}
        self._making: asyncio.Task[None] | None = None

    async def make(self, taken: Taken) -> Running | None:
        """What was claimed, folded; None: it has failed, for it cannot go on."""
        self._stop()
        ready = self._ready.pop(taken.record.id, None)
        if ready is not None and ready.record is taken.record:
            return ready
        try:
            return await self._made(taken)
        except Unavailable:
            raise
        except Exception as error:  # ruff: ignore[blind-except]  # what nobody has thought of
            await self._fail(taken.record, error)
            return None

    def make_ready(self, records: Iterable[ExecutionRecord]) -> None:
        """These are about to be claimed, unless something comes between: make what can be made."""
        with suppress(RuntimeError):  # the worker has ended meanwhile
            self._making = self._host.start(self._make_all(records))

    def forget(self) -> None:
        """What is ready and was not claimed never will be."""
        self._stop()
        self._ready.clear()

    def _stop(self) -> None:
        if self._making is not None:
            self._making.cancel()
            self._making = None

    async def _make_all(self, records: Iterable[ExecutionRecord]) -> None:
        for number, record in enumerate(records, 1):
            with suppress(Exception):  # whoever makes it then is told
                self._ready[record.id] = await self._made(Taken(record))
            if number % FEW == 0:
                await self._host.clock.sleep(0)

    async def _made(self, taken: Taken) -> Running:
        plan = await self._catalog.plan_of(taken.record)
        return Running(taken.record, plan, taken.events, self._host)

    async def _fail(self, record: ExecutionRecord, error: Exception) -> None:
        """It says why, rather than be claimed for ever."""
        host = self._host
        known = isinstance(error, Refused | ValueError)
        message = str(error) if known else host.logs.bug(record.id, error, host.secrets.mask)
        log.error("execution cannot go on", execution=record.id, error=message)
        failure = Failure(step=None, type="definition" if known else "bug", message=message)
        await fail(record, failure, host, begun=record.claims > 1)
