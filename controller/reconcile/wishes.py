"""Wishes, of people and of other sources, brought to whoever keeps the source they are about."""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import replace

from controller.core.problem import Unavailable
from controller.logs import get_log
from controller.reconcile.reconciler import Reconciler
from controller.store import Store, ledger
from controller.store.records import SourceWish
from controller.store.tables import Transaction

log = get_log("windlass.reconcile")


class Wishes:
    """Wakes a source's reconciler when somebody wants something else of the source."""

    def __init__(self, store: Store, reconcilers: Collection[Reconciler]) -> None:
        self._store = store
        self._reconcilers = reconcilers
        self._woken = asyncio.Event()
        self._stopping = False

    def look_again(self) -> None:
        """Somebody rang."""
        self._woken.set()

    def stop(self) -> None:
        """End the loop."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Read the wishes whenever somebody rings."""
        while not self._stopping:
            await self._woken.wait()
            self._woken.clear()
            try:
                self._dispatch(await self._store.read(ledger.wishes))
            except Unavailable as error:
                log.warning("wishes cannot be read; they are at the next look", error=str(error))

    def _dispatch(self, found: dict[str, SourceWish]) -> None:
        for each in self._reconcilers:
            wish = found.get(each.id, SourceWish(each.id))
            if each.keeps and each.wish is not None and each.wish != wish:
                each.look_at_everything()


def mark_removed(tx: Transaction, configured: Iterable[str]) -> None:
    """A verb for the store: say of sources that are in no settings any more that they are not.

    Those that are may wake each other from now on. What the rest own goes on as it is: nothing is
    archived because a line of a settings file is gone.
    """
    known = set(configured)
    ledger.add_wishes(tx, sorted(known))
    for each in ledger.sources(tx):
        if each.id not in known and each.phase != "removed":
            message = (
                "the settings do not name it any more; its workflows go on"
                f" (`windlass sync:forget {each.id}` archives them)"
            )
            removed = replace(each, phase="removed", reason="not-configured", message=message)
            ledger.put_source(tx, removed)
