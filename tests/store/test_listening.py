"""LISTEN on a loop that watches other descriptors too."""

import asyncio
import os
from typing import Any

import pytest
from sqlalchemy import text

from controller.core.problem import Unavailable
from controller.store import connecting, dialect
from controller.store.listening import Listener
from tests.postgres import Postgres

END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"


@pytest.mark.uvloop
async def test_a_lost_connection_says_nothing_to_who_has_its_number_next(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while a child that has not become its program yet keeps its socket open."""
    numbers: list[int] = []
    asked = dialect.descriptor

    def noted(connection: Any) -> int:
        numbers.append(asked(connection))
        return numbers[-1]

    monkeypatch.setattr(dialect, "descriptor", noted)
    with postgres.empty() as url:
        engines = connecting.connect(connecting.parse_url(url), 1)
        assert engines.listener is not None
        heard, said = asyncio.Event(), []
        listener = Listener(engines.listener, "here", asyncio.sleep, heard.set)
        hearing = asyncio.ensure_future(listener.hear())
        await heard.wait()
        [number] = numbers
        childs = os.dup(number)
        with engines.writer.connect() as tx:
            tx.execute(text(END))
        with pytest.raises(Unavailable):
            await hearing
        for engine in (engines.reader, engines.writer, engines.listener):
            engine.dispose()
        reading, writing = os.pipe()
        os.dup2(reading, number)
        loop = asyncio.get_running_loop()
        loop.add_reader(number, lambda: said.append(number))
        for _ in range(3):
            await asyncio.to_thread(bool)  # the loop has asked the kernel
        loop.remove_reader(number)
        for each in {reading, writing, childs, number}:
            os.close(each)
    assert said == []
