"""A directory under churn: nothing is missed, nothing half written is applied.

The clock stands still, so that no resync happens: what is noticed, events noticed.
"""

import asyncio
import importlib
import logging
import os
import random
import resource
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers.api import EventQueue, ObservedWatch

from controller.facts import Fact, FactType
from controller.reconcile import Reconciler
from controller.source.watch import Watch, is_remote
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.language.test_parse import mutated
from tests.service.place import Place, flow, opened
from tests.sources import ROOT

KINDS = {FactType.CREATED, FactType.UPDATED, FactType.ARCHIVED}


class Seen:
    """What a reconciler has told."""

    def __init__(self, place: Place, reconciler: Reconciler) -> None:
        self.place = place
        self.reconciler = reconciler
        self.facts: list[Fact] = []
        place.app.bus.subscribe(self.facts.append)

    @property
    def live(self) -> set[str]:
        """Workflows that were created and not archived since."""
        found: set[str] = set()
        for fact in self.facts:
            if fact.type in KINDS and fact.workflow is not None:
                if fact.type is FactType.ARCHIVED:
                    found.discard(fact.workflow)
                else:
                    found.add(fact.workflow)
        return found

    @property
    def phase(self) -> tuple[str, str | None]:
        """The newest phase and its reason."""
        last = next(each for each in self.facts[::-1] if each.type is FactType.RECONCILED)
        return last.data["phase"], last.data["reason"]

    async def updated(self, name: str) -> None:
        """Wait until a workflow was updated."""
        await eventually(
            lambda: any(
                each.type is FactType.UPDATED and each.workflow == name for each in self.facts
            ),
            f"{name} is updated",
        )


@asynccontextmanager
async def watched(folder: Path, clock: FakeClock, **more: Any) -> AsyncGenerator[Seen]:
    """A reconciler at work on the directory `definitions`."""
    source = {"name": "files", "directory": str(folder / "definitions"), **more}
    async with opened(folder, clock, source) as place:
        reconciler = place.reconciler("files")
        seen = Seen(place, reconciler)
        running = asyncio.ensure_future(reconciler.run())
        await reconciler.first.wait()
        try:
            yield seen
        finally:
            reconciler.stop()
            await running


async def _live(seen: Seen, *names: str) -> None:
    await eventually(lambda: seen.live == set(names), f"{names} are live, not {seen.live}")


async def test_an_editors_save_is_one_change(tmp_path: Path, clock: FakeClock) -> None:
    """A temporary file renamed over the old one, as vim and every careful program does."""
    async with watched(tmp_path, clock) as seen:
        root = seen.place.root
        seen.place.write("a.yaml", flow("a", "one"))
        await _live(seen, "a")
        (root / "a.yaml~").write_text("a backup, which is nobody's")
        (root / ".a.yaml.swp").write_bytes(b"\0" * 4096)
        fresh = root / "4913.tmp"
        fresh.write_text(flow("a", "two"))
        fresh.replace(root / "a.yaml")
        await seen.updated("a")
        assert [each.type for each in seen.facts].count(FactType.UPDATED) == 1


async def test_a_file_that_comes_from_elsewhere_is_noticed(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Moved in from another directory, or linked: nobody closes it, and it is complete."""
    async with watched(tmp_path, clock) as seen:
        outside = tmp_path / "outside.yaml"
        outside.write_text(flow("a"))
        outside.rename(seen.place.root / "a.yaml")
        await _live(seen, "a")
        outside.write_text(flow("b"))
        os.link(outside, seen.place.root / "b.yaml")
        await _live(seen, "a", "b")
        (seen.place.root / "a.yaml").rename(outside)
        await _live(seen, "b")


async def test_a_half_written_file_is_left_alone(tmp_path: Path, clock: FakeClock) -> None:
    """What stands in it so far is a valid workflow, with fewer steps: it waits for the close."""
    async with watched(tmp_path, clock) as seen:
        text = flow("a") + "  - {id: b, type: action, action: set}\n"
        with (seen.place.root / "a.yaml").open("w") as file:
            file.write(flow("a"))
            file.flush()
            for name in ("x", "y"):  # looks that happen meanwhile
                seen.place.write(f"{name}.yaml", flow(name))
                await eventually(lambda name=name: name in seen.live)  # type: ignore[misc]  # mypy takes no default here
            seen.reconciler.look_at_everything()
            seen.place.write("z.yaml", flow("z"))
            await eventually(lambda: "z" in seen.live)
            assert "a" not in seen.live
            file.write(text[len(flow("a")) :])
        await _live(seen, "a", "x", "y", "z")
        assert len((await seen.place.app.service.get_workflow("a")).steps) == 2


async def test_a_config_map_is_swapped(tmp_path: Path, clock: FakeClock) -> None:
    """Kubernetes swaps a link, `..data`, and every file changes at once."""
    root = tmp_path / "definitions"
    root.mkdir()
    for day, text in (("..2026_01", "one"), ("..2026_02", "two")):
        (root / day).mkdir()
        for name in "ab":
            (root / day / f"{name}.yaml").write_text(flow(name, text))
    (root / "..data").symlink_to("..2026_01")
    for name in "ab":
        (root / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    async with watched(tmp_path, clock) as seen:
        await clock.advance(200)
        await _live(seen, "a", "b")
        (root / "..data_tmp").symlink_to("..2026_02")
        (root / "..data_tmp").rename(root / "..data")
        shutil.rmtree(root / "..2026_01")
        await seen.updated("a")
        await seen.updated("b")
        assert seen.live == {"a", "b"}


@pytest.mark.parametrize("way", ["current", "current/flows", "other/current"])
async def test_a_link_on_the_way_to_the_root_is_swapped(
    tmp_path: Path, clock: FakeClock, way: str
) -> None:
    """A release is put in the place of another: all of it counts at once, and is watched."""
    for name in "ab":
        flows = tmp_path / f"release-{name}" / "flows"
        flows.mkdir(parents=True)
        (flows / f"{name}.yaml").write_text(flow(name))
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").symlink_to("folder")
    link = tmp_path / way.removesuffix("/flows")
    back = ".." if "other" in way else "."
    link.symlink_to(f"{back}/release-a")
    async with watched(tmp_path, clock, directory=str(tmp_path / way), prune_limit=100) as seen:
        await clock.advance(200)
        await _live(seen, "a")
        fresh = tmp_path / "fresh"
        fresh.symlink_to(f"{back}/release-b")
        fresh.rename(link)
        await _live(seen, "b")
        (tmp_path / way / "c.yaml").write_text(flow("c"))
        await _live(seen, "b", "c")
        link.unlink()
        await eventually(lambda: seen.phase == ("failed", "unreachable"))


async def test_a_root_that_is_made_anew_iswatched(tmp_path: Path, clock: FakeClock) -> None:
    """Renamed away: failed, nothing pruned. Made anew: its files are what counts, and watched."""
    async with watched(tmp_path, clock) as seen:
        root = seen.place.root
        for name in "abc":
            seen.place.write(f"{name}.yaml", flow(name))
        await _live(seen, "a", "b", "c")
        root.rename(tmp_path / "away")
        await eventually(lambda: seen.phase == ("failed", "unreachable"))
        fresh = tmp_path / "fresh"
        shutil.copytree(tmp_path / "away", fresh)
        (fresh / "c.yaml").unlink()
        (fresh / "d.yaml").write_text(flow("d"))
        fresh.rename(root)
        await clock.advance(6_000)
        await _live(seen, "a", "b", "d")
        seen.place.write("e.yaml", flow("e"))
        await _live(seen, "a", "b", "d", "e")


async def test_a_root_that_comes_back_empty_prunes_nothing(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Deleted and recreated: the guard holds everything until the files are back."""
    async with watched(tmp_path, clock) as seen:
        root = seen.place.root
        for name in "abc":
            seen.place.write(f"{name}.yaml", flow(name))
        await _live(seen, "a", "b", "c")
        shutil.rmtree(root)
        root.mkdir()
        await clock.advance(6_000)
        await eventually(lambda: seen.phase == ("held", "prune-limit"))
        assert seen.live == {"a", "b", "c"}
        for name in "abc":
            seen.place.write(f"{name}.yaml", flow(name))
        await eventually(lambda: seen.phase == ("ready", None))


async def test_files_that_go_one_by_one_are_one_deletion(tmp_path: Path, clock: FakeClock) -> None:
    """A slow `rm -r` is seen in several looks and held all the same; patient people are not."""
    async with watched(tmp_path, clock) as seen:
        for name in "abcd":
            seen.place.write(f"{name}.yaml", flow(name))
        await _live(seen, *"abcd")
        for name in "ab":
            (seen.place.root / f"{name}.yaml").unlink()
            await eventually(lambda name=name: name not in seen.live)  # type: ignore[misc]  # mypy takes no default here
        (seen.place.root / "c.yaml").unlink()
        await eventually(lambda: seen.phase == ("held", "prune-limit"))
        assert seen.live == {"c", "d"}
        seen.place.write("c.yaml", flow("c"))
        await eventually(lambda: seen.phase == ("ready", None))
        await clock.advance(61_000)
        seen.place.write("e.yaml", flow("e"))
        await _live(seen, "c", "d", "e")  # a look that began when the minute was over
        (seen.place.root / "c.yaml").unlink()
        await _live(seen, "d", "e")


async def test_an_approval_is_not_for_ever(tmp_path: Path, clock: FakeClock) -> None:
    """What was approved once does not let later files go one by one."""
    async with opened(tmp_path, clock) as place:
        reconciler = place.reconciler()
        for name in "abcd":
            place.write(f"{name}.yaml", flow(name))
        await reconciler.reconcile()
        for name in "abc":
            (place.root / f"{name}.yaml").unlink()
        await reconciler.reconcile()
        await place.app.sources.approve()
        await reconciler.reconcile()
        assert await place.names() == ["d"]
        await clock.advance(1)
        for name in "efg":
            place.write(f"{name}.yaml", flow(name))
        await reconciler.reconcile()
        phases = []
        for name in "def":
            (place.root / f"{name}.yaml").unlink()
            phases.append((await reconciler.reconcile()).source.phase)
        assert phases == ["ready", "ready", "held"]


async def test_five_thousand_files_at_once(tmp_path: Path, clock: FakeClock) -> None:
    """Written one after another as a checkout does, while looks go on; all of them arrive."""
    async with watched(tmp_path, clock) as seen:
        await asyncio.to_thread(_write_many, seen.place.root, 5_000)
        await eventually(lambda: len(seen.live) == 5_000, within=50)
        assert len(await seen.place.names()) == 5_000


def _write_many(root: Path, count: int) -> None:
    for number in range(count):
        folder = root / f"part-{number % 50}"
        folder.mkdir(exist_ok=True)
        (folder / f"w{number}.yaml").write_text(flow(f"w{number}"))


async def test_folders_come_and_go(tmp_path: Path, clock: FakeClock) -> None:
    """A folder that is moved in brings its files, one that is renamed or removed takes them."""
    async with watched(tmp_path, clock, prune_limit=100) as seen:
        outside = tmp_path / "team"
        outside.mkdir()
        for name in "ab":
            (outside / f"{name}.yaml").write_text(flow(name))
        outside.rename(seen.place.root / "team")
        await clock.advance(200)
        await _live(seen, "a", "b")
        (seen.place.root / "team").rename(seen.place.root / "group")
        await seen.updated("a")
        shutil.rmtree(seen.place.root / "group")
        await _live(seen)


async def test_lost_events_are_made_up_for(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's queue overflows and events are lost: everything is looked at."""
    async with watched(tmp_path, clock) as seen:
        monkeypatch.setattr(Watch, "_heard", lambda *_event: None)
        seen.place.write("a.yaml", flow("a"))
        seen.place.write("b/b.yaml", flow("b"))
        logger = logging.getLogger("watchdog.observers.inotify_c")
        logger.warning("Inotify queue overflowed; filesystem events were lost")
        await _live(seen, "a", "b")


async def test_an_event_amid_the_close_is_no_error(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Watchdog says so of an observer that is being closed; whatever else it says is told."""
    inotify = importlib.import_module("watchdog.observers.inotify")
    closed = inotify.InotifyEmitter(EventQueue(), ObservedWatch(str(tmp_path), recursive=True))
    async with watched(tmp_path, clock):
        closed.queue_events(0)
        inotify.logger.error("something else")
    assert [each.message for each in caplog.records if "watchdog" in each.name] == [
        "something else"
    ]


async def test_without_events_it_polls(tmp_path: Path, clock: FakeClock) -> None:
    """The machine gives no inotify instance: changes are found from time to time."""
    importlib.import_module("watchdog.observers.inotify")  # which needs files of its own
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with opened(tmp_path, clock) as place:
        reconciler = place.reconciler()
        seen = Seen(place, reconciler)
        await reconciler.reconcile()
        used = [os.dup(0)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used[0] + 1, hard))
            reconciler._origin.attend(lambda: None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(used[0])
        assert reconciler._origin.interval(30_000) == 5_000
        place.write("a.yaml", flow("a"))
        await reconciler.reconcile()
        assert seen.live == {"a"}
        reconciler.stop()


async def test_a_polled_source_is_looked_at_by_the_clock(tmp_path: Path, clock: FakeClock) -> None:
    """`watch: poll`: nothing happens between two looks, and each finds what there is."""
    async with watched(tmp_path, clock, watch="poll", interval=2_000) as seen:
        seen.place.write("a.yaml", flow("a"))
        assert seen.live == set()
        await clock.advance(2_500)
        await _live(seen, "a")


@pytest.mark.parametrize(
    ("mounts", "root", "kind"),
    [
        ("/dev/sda / ext4 rw\nserver:/x /mnt nfs4 rw", "/mnt/flows", "remote"),
        ("/dev/sda / ext4 rw\nserver:/x /mnt nfs4 rw", "/mntx/flows", "local"),
        ("/dev/sda / ext4 rw\nserver:/x /mnt nfs4 rw\ntmpfs /mnt/t tmpfs", "/mnt/t/flows", "local"),
        ("user@h:/x /mnt/my\\040share fuse.sshfs rw", "/mnt/my share/flows", "remote"),
        ("/dev/sda / ext4 rw", "/anything", "local"),
    ],
)
def test_file_systems_of_other_machines_are_known(
    tmp_path: Path, mounts: str, root: str, kind: str
) -> None:
    """Their changes may be made elsewhere, where no event of ours comes from."""
    table = tmp_path / "mounts"
    table.write_text(mounts + "\n")
    assert is_remote(Path(root), table) is (kind == "remote")
    assert is_remote(Path(root), tmp_path / "absent") is False


async def test_five_hundred_broken_files_are_answered(tmp_path: Path, clock: FakeClock) -> None:
    """Slips, cuts and noise: each file is accepted, or has a problem at a line."""
    chance = random.Random(500)
    samples = [path.read_bytes() for path in sorted((ROOT / "definitions").rglob("*.yaml"))]
    async with opened(tmp_path, clock) as place:
        for number in range(500):
            content = chance.choice(samples)
            for _ in range(chance.randrange(1, 4)):
                content = mutated(content, chance) or b"\n"
            (place.root / f"f{number}.yaml").write_bytes(content)
        await place.reconcile()
        [status] = await place.app.sources.statuses()
        assert len(status.files) == 500
        for file in status.files:
            errors = [each for each in file.problems if each["severity"] == "error"]
            assert bool(errors) == (file.status == "invalid"), file
            assert all(each["line"] >= 1 and each["column"] >= 1 for each in errors)
        assert {each.status for each in status.files} == {"valid", "invalid"}
