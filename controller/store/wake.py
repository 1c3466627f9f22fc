"""The doorbell: how another process tells the controller to look again.

It is only a hint. A ring that is lost costs a moment, because the controller looks again by itself
as well; so ringing never waits and never fails. A datagram socket in the state directory carries
it: rings that come together are one ring.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

NAME = "doorbell"

_ADDRESS_BYTES = 100
"""A little less than what a socket's address may be: 108 bytes on Linux, 104 on macOS."""


class Doorbell:
    """Calls `answer` on the running loop whenever somebody rings at `directory`.

    Attributes:
        works: False when the socket could not be made, such as on a file system without sockets:
            then nobody can ring, and looking again by itself has to do.
    """

    def __init__(self, directory: Path, answer: Callable[[], None]) -> None:
        self._directory = directory
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self.works = self._bind()

    def _bind(self) -> bool:
        try:
            with _short(self._directory) as short:
                (self._directory / NAME).unlink(missing_ok=True)
                self._socket.bind(f"{short}/{NAME}")
        except OSError:
            return False
        self._loop.add_reader(self._socket.fileno(), self._rang)
        return True

    def _rang(self) -> None:
        with suppress(OSError):
            while True:
                self._socket.recv(1)
        self._answer()

    def close(self) -> None:
        """Stop answering."""
        if self.works:
            self._loop.remove_reader(self._socket.fileno())
            with suppress(OSError):
                (self._directory / NAME).unlink()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def ring(directory: Path) -> bool:
    """Ring at the controller whose state directory this is; whether it was heard, as far as known.

    A bell that is full of rings has been heard.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.settimeout(0)
        try:
            with _short(directory) as short:
                bell.sendto(b".", f"{short}/{NAME}")
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


@contextmanager
def _short(directory: Path) -> Generator[str]:
    """The directory under a name short enough for a socket's address."""
    if len(os.fsencode(directory)) + len(NAME) < _ADDRESS_BYTES:
        yield str(directory)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
