"""What the first change of a source need not wait for."""

import os
from pathlib import Path

from controller.app import open_app
from controller.reconcile.ahead import get_ready, rehearse
from controller.settings import Settings
from controller.source.watch import Hint
from controller.store import Store, kept, ledger

TEXT = """name: w
triggers: [{type: scheduled, config: {cron: 0 3 * * *}}]
steps: [{id: a, type: action, action: log, inputs: {message: hello}}]
"""


async def _recorded(store: Store) -> object:
    found = await store.read(ledger.catalog), await store.read(ledger.schedules)
    return found, await store.read(ledger.revisions, "definitions"), store.commits


def _write(file: Path, text: str) -> None:
    """Long ago: what was written a moment ago is looked at twice."""
    file.write_text(text)
    os.utime(file, (len(text), len(text)))


async def test_what_was_rehearsed_is_put_together_and_nothing_is_changed(tmp_path: Path) -> None:
    """As after a start that found everything as it was."""
    file = tmp_path / "definitions" / "w.yaml"
    file.parent.mkdir()
    _write(file, TEXT)
    settings = Settings(state_dir=tmp_path / "state", source=str(file.parent))
    async with open_app(settings) as app:
        await app.reconciler(app.specs["definitions"], lambda: None).reconcile()
    kept._text.cache_clear()
    get_ready.cache_clear()
    async with open_app(settings) as app:
        reconciler = app.reconciler(app.specs["definitions"], lambda: None)
        await reconciler.reconcile()
        before = await _recorded(app.store)
        await app.store.read(rehearse, "definitions")
        assert await _recorded(app.store) == before
        made = kept._text.cache_info().misses
        assert get_ready.cache_info().currsize == 1
        _write(file, TEXT + "labels: {changed: once}\n")
        reconciler._origin._hint = Hint(frozenset({"w.yaml"}), frozenset())  # type: ignore[attr-defined]  # a directory's: as an event says
        await reconciler.reconcile(whole=False)
        assert kept._text.cache_info().misses == made
        assert await _recorded(app.store) != before
