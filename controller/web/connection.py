"""One client's connection: whoever keeps us waiting does so for a while, and never all at once.

Each takes a file handle, of which steps need some too. So there are at most so many; when another
comes, the one that has kept us waiting for longest is closed for it, and only if all are being
answered the new one is told to come again. Waiting is: for a request, until all of its head and
body are there, and for what was answered to be taken. An answer may last, as a stream does.
"""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

PATIENCE_SECONDS = 60.0
"""In which a request must have come, since the connection or the answer before it."""

LAST_SECONDS = 1.0
"""In which it must have come once the server leaves."""

MOST = 256
"""Connections there are at once, where there are four times as many file handles."""

CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\n"
    b"connection: close\r\n\r\n"
)


def most_connections() -> int:
    """How many there may be: never more than a quarter of the file handles we may have."""
    handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if handles == resource.RLIM_INFINITY else min(MOST, handles // 4)


class Connection(H11Protocol):
    """uvicorn's, with bounds: an idle one that has been answered is closed by uvicorn, sooner."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Take it, in place of another or not at all where there are too many."""
        super().connection_made(transport)
        self._wait(PATIENCE_SECONDS)
        if len(self.connections) <= most_connections():
            return
        waited_for = [
            (each._due.when(), id(each), each)  # ruff: ignore[private-member-access]  # one of us
            for each in self.connections
            if isinstance(each, Connection) and each._due is not None and each is not self  # ruff: ignore[private-member-access]  # one of us
        ]
        if waited_for:
            _, _, longest = min(waited_for)
            self.connections.discard(longest)  # at once: others may come before it is gone
            longest.transport.abort()
        else:
            self.connections.discard(self)
            transport.write(CROWDED)
            transport.close()

    def handle_events(self) -> None:
        """Something came; once a request is all there, we are who is waited for."""
        super().handle_events()
        if _is_answered(self.cycle):
            self._waits_no_more()

    def on_response_complete(self) -> None:
        """Wait for the answer to be taken, and for another request."""
        self._wait(PATIENCE_SECONDS)
        super().on_response_complete()

    def shutdown(self) -> None:
        """What is being answered is finished; what has half come has a moment to come."""
        super().shutdown()
        if self._due is not None:
            self._wait(LAST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._waits_no_more()
        super().connection_lost(exc)

    def _wait(self, seconds: float) -> None:
        self._waits_no_more()
        self._due = self.loop.call_later(seconds, self.transport.abort)

    def _waits_no_more(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


def _is_answered(cycle: RequestResponseCycle | None) -> bool:
    """Whether a request is all there, and its answer is not."""
    return cycle is not None and not cycle.more_body and not cycle.response_complete
