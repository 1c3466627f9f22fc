"""Clients that connect and say nothing, or not all, take neither file handles nor the port."""

import asyncio
import resource
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.web import connection
from controller.web.address import bind
from controller.web.server import Handlers, server
from tests.crash.daemon import Daemon, windlass
from tests.eventually import eventually, wait_until

SILENT = 300
"""Clients; more than a daemon takes, whatever it may have."""

HANDLES = 128
"""File handles of the daemon."""

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"POST /push/team HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"
FLOW = "name: flow\nsteps:\n  - {id: a, type: action, action: shell, inputs: {command: echo hi}}\n"


@contextmanager
def _handles(soft: int) -> Generator[None]:
    """Processes begun meanwhile may have so many."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_silent_clients_keep_nothing_from_a_daemon(tmp_path: Path) -> None:
    """More of them than it has file handles: its steps run, and it says that it is alive."""
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "flow.yaml").write_text(FLOW)
    daemon = Daemon(tmp_path)
    with _handles(HANDLES):
        daemon.begin()
    with ExitStack() as clients:
        clients.callback(daemon.end)
        daemon.await_ready()
        for number in range(SILENT):
            client = clients.enter_context(
                socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
            )
            if number % 3:
                client.send(GET[:9] if number % 3 == 1 else HALF)
        windlass("workflows:execute", "-i", "flow", cwd=tmp_path)  # exit status 0: completed
        assert daemon.get("/healthz") == b"ok\n"
        taken = len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
        assert taken < HANDLES * 3 // 4
        assert daemon.stop() == 0
    assert "Traceback" not in daemon.log.read_text()


class _Port:
    """The HTTP port on the loopback interface; `/api/sources` is answered when `answer` is set."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.asked = 0
        self.where = ("127.0.0.1", 0)

    async def _sources(self, _name: str | None) -> Any:
        self.asked += 1
        await self.answer.wait()
        return []

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """While it is there."""

        async def hook(_workflow: str, _body: bytes, **_more: object) -> Any:  # ruff: ignore[unused-async]  # as the service's
            raise AssertionError

        def pushed(_source: str, _headers: object, _body: bytes) -> dict[str, Any]:
            return {}

        with bind("127.0.0.1:0") as taken:
            handlers = Handlers(bytes, "text/plain", dict, hook, pushed, self._sources)
            web = server(handlers)
            serving = asyncio.create_task(web.serve(sockets=[taken]))
            try:
                await eventually(lambda: web.started, "it listens")
                self.where = taken.getsockname()
                yield
            finally:
                web.leave()
                await serving

    async def client(self, says: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Someone who connects, and says something."""
        reader, writer = await asyncio.open_connection(*self.where)
        writer.write(says)
        await writer.drain()
        return reader, writer


@pytest.fixture
def port() -> _Port:
    """Not yet listening."""
    return _Port()


LIST = b"GET /api/sources HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("said", [b"", GET[:9], HALF, GET + HALF])
async def test_a_request_must_have_come_in_time(
    monkeypatch: pytest.MonkeyPatch, port: _Port, said: bytes
) -> None:
    """Nothing, half a head, half a body, half of a second one: closed, and told to nobody."""
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.05)
    async with port.listening():
        reader, writer = await port.client(said)
        with pytest.raises((ConnectionResetError, EOFError)):
            await reader.readuntil(b"nothing like it")
        writer.close()


async def test_an_answer_may_take_longer(monkeypatch: pytest.MonkeyPatch, port: _Port) -> None:
    """Whoever has asked waits for as long as the answer takes, and may ask again."""
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.05)
    async with port.listening():
        asking, writer = await port.client(LIST)
        await eventually(lambda: port.asked, "it is asked")
        silent, other = await port.client(b"")
        with pytest.raises((ConnectionResetError, EOFError)):
            await silent.readexactly(1)  # its time is over, and so was the other's
        port.answer.set()
        assert (await asking.readuntil(b"[]")).startswith(b"HTTP/1.1 200")
        writer.write(LIST)
        assert (await asking.readuntil(b"[]")).endswith(b"[]")
        writer.close()
        other.close()


async def test_who_has_kept_us_waiting_longest_makes_room(
    monkeypatch: pytest.MonkeyPatch, port: _Port
) -> None:
    """Of too many the oldest silent one goes; if all are being answered, the newest."""
    monkeypatch.setattr(connection, "MOST", 3)
    async with port.listening():
        clients = [await port.client(LIST)]
        await eventually(lambda: port.asked == 1, "it is asked")
        clients += [await port.client(b""), await port.client(b"")]
        clients += [await port.client(LIST)]
        with pytest.raises((ConnectionResetError, EOFError)):
            await clients[1][0].readexactly(1)
        await eventually(lambda: port.asked == 2, "it is asked again")
        clients += [await port.client(LIST)]
        with pytest.raises((ConnectionResetError, EOFError)):
            await clients[2][0].readexactly(1)
        await eventually(lambda: port.asked == 3, "all there may be are asking")
        clients += [await port.client(b"")]
        assert (await clients[-1][0].read()).startswith(b"HTTP/1.1 503 ")
        port.answer.set()
        for number in (0, 3, 4):
            assert (await clients[number][0].readuntil(b"[]")).startswith(b"HTTP/1.1 200")
        for _, writer in clients:
            writer.close()


def test_half_a_request_at_a_stop_is_no_error(tmp_path: Path) -> None:
    """Its client is left, the daemon ends as always, and there is nothing to tell."""
    (tmp_path / "definitions").mkdir()
    with Daemon(tmp_path) as daemon, ExitStack() as clients:
        for said in (HALF, HALF.replace(b"/push/team", b"/hooks/flow"), GET[:9]):
            client = clients.enter_context(
                socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
            )
            client.send(said)
        seen = socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
        wait_until(lambda: daemon.get("/healthz"), "what was said before is heard")
        seen.close()
        assert daemon.stop() == 0
    told = daemon.log.read_text()
    assert "Traceback" not in told
    assert '"level": "error"' not in told
