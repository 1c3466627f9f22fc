"""What Git and file systems take, and a database or a clock does not: it costs no other file."""

import os
from pathlib import Path
from typing import Any

import pytest

from controller.core.drift import Fate
from controller.core.plain import plain
from controller.source.snapshot import known_as
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.gitops.repository import Repository, run
from tests.gitops.test_churn import watched
from tests.postgres import Postgres
from tests.service.place import flow, opened

NO_TEXT = os.fsdecode(b"\xff\xc3.yaml")
LONG = "/".join(["e" * 200] * 6) + "/long.yaml"


def _source(kind: str, repository: Repository) -> dict[str, Any]:
    where = {"git": {"url": repository.url}, "directory": {"directory": str(repository.work)}}
    return {"name": "odd", "prune_limit": 100, **where[kind]}


@pytest.mark.parametrize("kind", ["git", "directory"])
@pytest.mark.parametrize("path", [NO_TEXT, f"{NO_TEXT}/a.yaml", LONG])
async def test_a_path_that_cannot_be_recorded_is_an_invalid_file(
    tmp_path: Path, clock: FakeClock, kind: str, path: str
) -> None:
    """It comes, stays, is mended and goes, and keeps nothing else back."""
    repository = Repository(tmp_path)
    for number, name in enumerate(("b.yaml", path, 'ü/"\n\t\\.yaml', "-x.yaml")):
        repository.write(name, flow(f"w{number}"))
    repository.commit()
    async with opened(tmp_path, clock, _source(kind, repository)) as place:
        reconciler = place.reconciler("odd")
        outcome = await reconciler.reconcile()
        names = await place.names()
        assert (outcome.invalid, len(names)) == ((known_as(path),), 3)
        assert reconciler._library is not None
        again = place.app.origin(place.app.specs["odd"])
        look = again.look(reconciler._library.files, None, clock.now(), whole=True)
        assert not look.snapshot.differs
        assert "has a path" in str((await place.app.sources.status("odd")).files)
        (repository.work / path).rename(repository.work / "mended.yaml")
        repository.commit()
        outcome = await reconciler.reconcile()
        assert (outcome.source.phase, len(outcome.drift.of(Fate.CREATED))) == ("ready", 1)
        assert set(names) < set(await place.names())


async def test_postgresql_takes_the_longest_path(
    tmp_path: Path, clock: FakeClock, postgres: Postgres
) -> None:
    """Whatever compresses less than that of a test; a longer one is an invalid file."""
    repository = Repository(tmp_path)
    parts = [os.urandom(100).hex() for _ in range(15)]
    for size in (4, 15):
        repository.write("/".join([*parts[:size], "x.yaml"]), flow(f"w{size}"))
    repository.commit()
    with postgres.empty() as url:
        source = _source("git", repository)
        async with opened(tmp_path, clock, source, database_url=url) as place:
            outcome = await place.reconcile("odd")
            assert (outcome.source.phase, len(outcome.invalid)) == ("degraded", 1)
            assert await place.names() == ["w4"]


async def test_events_of_such_a_file_are_heard(tmp_path: Path, clock: FakeClock) -> None:
    """And whatever follows them."""
    async with watched(tmp_path, clock) as seen:
        for name in (NO_TEXT, "a.yaml"):
            seen.place.write(name, flow("a"))
        await eventually(lambda: seen.phase == ("degraded", "invalid-files") and seen.live == {"a"})
        (seen.place.root / NO_TEXT).unlink()
        await eventually(lambda: seen.phase == ("ready", None))


async def test_a_deep_directory_is_read(tmp_path: Path, clock: FakeClock) -> None:
    """As far down as a path goes; what is too deep to be recorded is an invalid file."""
    async with opened(tmp_path, clock) as place:
        place.write("a.yaml", flow("a"))
        folders = [place.root.joinpath(*["d"] * depth) for depth in range(1, 1_050)]
        for each in folders:
            each.mkdir()
        file = folders[-1] / "b.yaml"
        file.write_text(flow("b"))
        try:
            outcome = await place.reconcile()
        finally:
            file.unlink()
            for each in reversed(folders):  # whoever removes what tests made goes down by recursion
                each.rmdir()
        assert (len(outcome.invalid), await place.names()) == (1, ["a"])


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (" 1790000000 +0000", "2026-09-21T14:13:20.000Z"),
        (" -5 +0000", "1970-01-01T00:00:00.000Z"),
        (" 999999999999 +0000", "9999-01-01T00:00:00.000Z"),
        (f" {'9' * 17} +0000", "9999-01-01T00:00:00.000Z"),
        ("", "1970-01-01T00:00:00.000Z"),
    ],
)
async def test_a_commit_may_say_any_date(
    tmp_path: Path, clock: FakeClock, date: str, expected: str
) -> None:
    """Whoever commits chooses it, and Git takes it; it is shown as the nearest that is one."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a"))
    tree = repository.git("rev-parse", "HEAD^{tree}").strip()
    body = f"tree {tree}\nauthor A <a@b>{date}\ncommitter A <a@b>{date}\n\nSubject\n"
    hashed = ("hash-object", "-t", "commit", "-w", "--stdin", "--literally")
    commit = run("git", *hashed, cwd=repository.bare, given=body).strip()
    run("git", "update-ref", "refs/heads/main", commit, cwd=repository.bare)
    async with opened(tmp_path, clock, _source("git", repository)) as place:
        assert (await place.reconcile("odd")).source.revision == commit
        [revision] = plain(await place.app.sources.history("odd"))
        assert revision["commit"]["committed_at"] == expected
