"""File events, as a hint: something may have changed, look again.

An event says nothing that is believed; events can be lost, doubled or late. The watch therefore
only calls back, after a short quiet, and the periodic resync finds what it missed. A root that was
renamed and made anew, or a ConfigMap's `..data` swap, leaves a watch on something that is no longer
there: `check` compares the root's identity and watches the new one.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from controller.source.directory import identity

QUIET = 0.05
"""Seconds without an event before we look, so that an editor's save is one look."""

PATIENCE = 0.5
"""Seconds after which we look even though events go on."""

log = structlog.get_logger("windlass.watch")


class Watch:
    """Calls `changed` on the loop when something below `root` may have changed."""

    def __init__(self, root: Path, changed: Callable[[], None]) -> None:
        self._root = root
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._observer: Any = None
        self._seen: tuple[int, int] | None = None
        self._quiet: asyncio.TimerHandle | None = None
        self._since: float | None = None

    def check(self) -> None:
        """Watch the root that is there now, if it is another one than before."""
        found = identity(self._root)
        if found == self._seen and self._observer is not None and self._observer.is_alive():
            return
        self.close()
        self._seen = found
        if found is not None:
            self._start()

    def _start(self) -> None:
        from watchdog.events import (  # ruff: ignore[import-outside-top-level]  # start-up time
            EVENT_TYPE_CLOSED_NO_WRITE,
            EVENT_TYPE_OPENED,
            FileSystemEvent,
            FileSystemEventHandler,
        )
        from watchdog.observers import Observer  # ruff: ignore[import-outside-top-level]  # start-up time

        watch = self

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                # reading a file is an event too, and it is we who read
                if event.event_type not in {EVENT_TYPE_OPENED, EVENT_TYPE_CLOSED_NO_WRITE}:
                    watch._loop.call_soon_threadsafe(watch._event)

        try:
            observer = Observer()
            observer.schedule(Handler(), str(self._root.resolve()), recursive=True)
            observer.start()
        except OSError as error:
            # such as inotify's limits: the resync goes on without hints
            log.warning(
                "cannot watch; only the resync looks", root=str(self._root), error=str(error)
            )
            return
        self._observer = observer

    def _event(self) -> None:
        now = self._loop.time()
        self._since = now if self._since is None else self._since
        if self._quiet is not None:
            self._quiet.cancel()
        wait = min(QUIET, max(0.0, self._since + PATIENCE - now))
        self._quiet = self._loop.call_later(wait, self._look)

    def _look(self) -> None:
        self._quiet = None
        self._since = None
        self._changed()

    def close(self) -> None:
        """Watch nothing any more."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if self._observer is not None:
            self._observer.stop()
            self._observer = None
