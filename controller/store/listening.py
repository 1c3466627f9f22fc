"""What other controllers announce: PostgreSQL's LISTEN, on a connection of its own.

It is only a hint, as the doorbell is: whoever hears nothing looks again by itself a little later.
What is announced within a transaction is heard when that is committed.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

from sqlalchemy import Connection, Engine

from controller.core.problem import Unavailable
from controller.logs import get_log
from controller.store import dialect
from controller.store.opening import translated

Sleep = Callable[[float], Coroutine[Any, Any, None]]
"""Returns after so many seconds."""

AGAIN_AFTER = 1.0
"""Seconds between tries to connect."""

log = get_log("windlass.store")


class Listener:
    """Calls `heard` on the running loop whenever some controller, also this one, announces.

    Args:
        engine: Its own; see `Engines.listener`.
        where: The database as messages name it.
        sleep: A clock's; waits between tries to connect.
        heard: Called too when a lost connection is there again: something may have been missed.
    """

    def __init__(self, engine: Engine, where: str, sleep: Sleep, heard: Callable[[], None]) -> None:
        self._engine = engine
        self._where = where
        self._sleep = sleep
        self._heard = heard

    async def hear(self) -> None:
        """Listen until cancelled; raises `Unavailable` when the connection is lost."""
        connection = await asyncio.to_thread(self._connect)
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        # ours: a lost connection closes its own, which another may have while the loop watches it
        number = os.dup(dialect.descriptor(connection))
        loop.add_reader(number, readable.set)
        try:
            self._heard()
            while True:
                await readable.wait()
                readable.clear()
                if dialect.heard(connection):
                    self._heard()
        finally:
            loop.remove_reader(number)
            os.close(number)
            connection.invalidate()
            connection.close()

    def _connect(self) -> Connection:
        with translated(self._where, in_use=True):
            connection = self._engine.connect()
            dialect.listen(connection)
            return connection

    async def run(self) -> None:
        """`hear` until cancelled; a lost connection is made again."""
        while True:
            try:
                await self.hear()
            except Unavailable as error:
                log.warning("hears nothing of other controllers", error=str(error))
            await self._sleep(AGAIN_AFTER)
