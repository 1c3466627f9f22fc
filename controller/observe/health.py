"""Whether the daemon lives, whether it is ready, and how the service manager hears of it.

Alive: the loop turns. Ready: everything has started and the source was looked at once; a part that
failed says so in the answer. systemd is told by its datagram socket (`sd_notify(3)`), and never
waited for: what has no room there is lost, or told at the next beat where it is news.
"""

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from controller.clock import Clock


class Health:
    """The state of the parts, by name.

    Args:
        notify_socket: `$NOTIFY_SOCKET`, or None.
    """

    def __init__(self, clock: Clock, notify_socket: str | None) -> None:
        self._clock = clock
        self._socket = notify_socket
        self._since = clock.now()
        self._failures: dict[str, str] = {}
        self._watched: dict[str, Callable[[], str | None]] = {}
        self._ready = False
        self._news: str | None = None

    @property
    def failures(self) -> dict[str, str]:
        """Why, of each part that does not work now."""
        found = {part: why() for part, why in self._watched.items()}
        return self._failures | {part: why for part, why in found.items() if why is not None}

    def watch(self, part: str, why: Callable[[], str | None]) -> None:
        """Ask this part itself, on any thread, why it does not work; None: it does."""
        self._watched[part] = why

    def started(self) -> None:
        """Everything has started."""
        self._ready = True
        self._news = "READY=1\nSTATUS=ready"
        self._tell_news()

    def stopping(self) -> None:
        """The daemon ends."""
        self._ready = False
        self._news = "STOPPING=1\nSTATUS=stopping"
        self._tell_news()

    def failed(self, part: str, why: str) -> None:
        """A part does not work; `well` takes it back."""
        self._failures[part] = why

    def well(self, part: str) -> None:
        """A part works."""
        self._failures.pop(part, None)

    def beat(self) -> None:
        """The loop turns: for the service manager's watchdog."""
        self._tell_news()
        self._tell("WATCHDOG=1")

    def report(self) -> Mapping[str, Any]:
        """What `/readyz` answers: ready if everything has started, and nothing has failed."""
        failures = self.failures
        return {
            "status": "ready" if self._ready and not failures else "not-ready",
            "uptime": self._clock.now() - self._since,
            "failures": failures,
        }

    def _tell_news(self) -> None:
        if self._news is not None and self._tell(self._news):
            self._news = None

    def _tell(self, message: str) -> bool:
        """Whether it was told, or nobody wants to hear it."""
        if not self._socket:
            return True
        address = "\0" + self._socket[1:] if self._socket.startswith("@") else self._socket
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
            bell.settimeout(0)
            bell.sendto(message.encode(), address)
            return True
        return False


def notify_socket(environ: Mapping[str, str] | None = None) -> str | None:
    """Where the service manager listens; `$NOTIFY_SOCKET`."""
    return (os.environ if environ is None else environ).get("NOTIFY_SOCKET")  # ruff: ignore[banned-api]  # the service manager's own variable
