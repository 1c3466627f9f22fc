"""A way to a PostgreSQL that falls silent, as networks do: nothing arrives, nothing is refused.

A process of its own: what keeps the whole process waiting that asks must not keep this one.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

LIFE = 30
"""Seconds after which it ends by itself, and with it what waits for it."""


@dataclass
class Relay:
    """Where it listens."""

    url: str
    process: "subprocess.Popen[bytes]"

    def fall_silent(self) -> None:
        """Pass on nothing any more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"silent\n"


@contextmanager
def relayed(url: str, *, all: bool) -> Generator[Relay]:  # ruff: ignore[builtin-argument-shadowing]  # what it says
    """A relay to the server on a socket; `all`: those who come later meet silence, too."""
    parts = urlsplit(url)
    path = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
    command = (sys.executable, __file__, path, str(int(all)))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        where = f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable"
        try:
            yield Relay(where, process)
        finally:
            process.kill()


async def _relay(path: str, *, all: bool) -> None:  # ruff: ignore[builtin-argument-shadowing]  # what it says
    silent: list[bool] = []

    async def pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, old: bool
    ) -> None:
        while data := await reader.read(65_536):
            if not (silent and (all or old)):
                writer.write(data)
                await writer.drain()
        if not (silent and (all or old)):
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        old = not silent
        there, back = await asyncio.open_unix_connection(path)
        await asyncio.gather(pass_on(reader, back, old=old), pass_on(there, writer, old=old))

    def fall_silent() -> None:
        os.read(0, 1)
        silent.append(True)
        print("silent", flush=True)  # ruff: ignore[print]  # to whoever started it

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    asyncio.get_running_loop().add_reader(0, fall_silent)
    print(server.sockets[0].getsockname()[1], flush=True)  # ruff: ignore[print]  # to whoever started it
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    signal.alarm(LIFE)
    asyncio.run(_relay(sys.argv[1], all=sys.argv[2] == "1"))
