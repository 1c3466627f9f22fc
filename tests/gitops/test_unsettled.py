"""A directory without file events, in which files were written a moment ago: nobody knows more."""

import os
from pathlib import Path

from controller.core.drift import Fate
from controller.source.directory import GONE
from tests.fake_clock import FakeClock
from tests.service.place import flow, opened


async def test_a_file_changed_a_moment_ago_is_looked_at_twice(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Without events nobody knows whether a writer is done: it is taken when it stays the same."""
    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", flow("a"))
        now = clock.now() / 1000
        os.utime(place.root / "a.yaml", (now, now))
        reconciler = place.reconciler()
        assert (await reconciler.reconcile()).drift.fates == {}
        place.write("a.yaml", flow("a", "still writing"))
        os.utime(place.root / "a.yaml", (now + 0.01, now + 0.01))
        assert (await reconciler.reconcile()).drift.fates == {}
        assert (await reconciler.reconcile()).drift.fates == {"a": "created"}


async def test_a_file_that_moved_a_moment_ago_is_not_gone(tmp_path: Path, clock: FakeClock) -> None:
    """Old and new places count at the same look: nothing is archived, nothing held."""
    async with opened(tmp_path, clock) as place:
        for name in "ab":
            place.write(f"{name}.yaml", flow(name))
        reconciler = place.reconciler()
        await reconciler.reconcile()
        for name in "ab":
            (place.root / f"{name}.yaml").unlink()
            place.write(f"new/{name}.yaml", flow(name))
            os.utime(place.root / "new" / f"{name}.yaml", (clock.now() / 1000,) * 2)
        looks = [await reconciler.reconcile() for _ in range(2)]
        assert [each.source.phase for each in looks] == ["ready", "ready"]
        assert [each.drift.fates for each in looks] == [{}, {"a": Fate.UPDATED, "b": Fate.UPDATED}]
        (place.root / "new" / "b.yaml").unlink()
        assert (await reconciler.reconcile()).drift.of(Fate.PRUNED) == ["b"]


async def test_a_file_that_is_always_being_written_keeps_no_other(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Of those that are not there any more; one that moved comes back long before."""
    async with opened(tmp_path, clock) as place:
        for name in "abcd":
            place.write(f"{name}.yaml", flow(name))
        reconciler = place.reconciler()
        await reconciler.reconcile()
        missing = (place.root / "a.yaml", place.root / "b.yaml")
        for each in missing:
            each.rename(each.with_suffix(".away"))
        counts = []
        for count in range(2 * GONE):
            place.write("d.yaml", flow("d", f"line {count}"))
            os.utime(place.root / "d.yaml", ns=(clock.now() * 1_000_000 + count,) * 2)
            if count == GONE // 2:
                missing[0].with_suffix(".away").rename(missing[0])
            if count == GONE + GONE // 4:
                missing[0].unlink()
            if (await reconciler.reconcile()).drift.of(Fate.PRUNED):
                counts.append(count)
        assert counts == [GONE - 1]
        assert await place.names() == ["a", "c", "d"]
        assert (await place.app.service.get_workflow("d")).description == "x"
