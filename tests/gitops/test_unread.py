"""What may not be read of a source is not read, at whatever look, and never waited for."""

import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.core.drift import Fate
from controller.core.problem import Unavailable
from controller.source.directory import Directory
from controller.source.snapshot import Found
from tests.fake_clock import FakeClock
from tests.gitops.repository import Repository
from tests.service.place import flow, opened

LARGEST = 2_000

PATIENCE = 20
"""Seconds; what waits for a pipe waits longer."""

Make = Callable[[Path], object]


def _link_out(path: Path) -> None:
    outside = path.parents[2] / "outside.yaml"
    outside.write_text(flow("stolen"))
    path.symlink_to(outside)


def _below_a_link_out(path: Path) -> None:
    outside = path.parents[2] / "outside"
    outside.mkdir()
    (outside / path.name).write_text(flow("stolen"))
    path.parent.rmdir()
    path.parent.symlink_to(outside)


def _too_large(path: Path) -> None:
    path.write_text(flow("stolen", "x" * LARGEST))


@contextmanager
def _ended(path: Path) -> Generator[None]:
    """At the end nobody waits for a writer of the pipe any more, should it be one."""
    try:
        yield
    finally:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("make", [_link_out, os.mkfifo, _too_large])
async def test_a_refused_file_is_refused_whatever_else_changes(
    tmp_path: Path, clock: FakeClock, make: Make
) -> None:
    """A file with a problem is looked at again with any change; this one when it is mended."""
    async with opened(tmp_path, clock, max_file_bytes=LARGEST) as place:
        place.write("a.yaml", flow("a"))
        refused = place.root / "sub" / "x.yaml"
        refused.parent.mkdir()
        make(refused)
        reconciler = place.reconciler()
        assert (await reconciler.reconcile()).invalid == ("sub/x.yaml",)
        place.write("b.yaml", flow("b"))
        with _ended(refused):
            outcome = await reconciler.reconcile()
        assert (outcome.source.phase, outcome.invalid) == ("degraded", ("sub/x.yaml",))
        assert await place.names() == ["a", "b"]
        refused.unlink()
        place.write("sub/x.yaml", flow("x"))
        assert (await reconciler.reconcile()).source.phase == "ready"


async def test_a_file_over_the_bound_is_refused_unread(tmp_path: Path, clock: FakeClock) -> None:
    """Of a repository: invalid until it is small enough or the bound is higher, and found once."""
    repository = Repository(tmp_path)
    repository.put("a.yaml", flow("a", "x" * 5_000))
    source = {"name": "git", "url": repository.url}
    async with opened(tmp_path, clock, source, max_file_bytes=LARGEST) as place:
        reconciler = place.reconciler("git")
        assert (await reconciler.reconcile()).invalid == ("a.yaml",)
        [file] = (await place.app.sources.status("git")).files
        assert [each["code"] for each in file.problems] == ["file-too-large"]
        assert reconciler._library is not None
        look = place.app.origin(place.app.specs["git"]).look(
            reconciler._library.files, None, clock.now(), whole=True
        )
        assert not look.snapshot.differs, "what is known of it is found again at a start"
        repository.put("a.yaml", flow("a"))
        assert (await reconciler.reconcile()).drift.of(Fate.CREATED) == ["a"]
        repository.put("a.yaml", flow("a", "y" * 5_000))
        assert (await reconciler.reconcile()).invalid == ("a.yaml",)
    async with opened(tmp_path, clock, source, max_file_bytes=10_000) as place:
        outcome = await place.reconcile("git")
        assert (outcome.drift.of(Fate.UPDATED), outcome.invalid) == (["a"], ())


def _good(root: Path) -> tuple[Directory, Path, dict[str, Found]]:
    """A directory with a good file, as a look left it."""
    file = root / "definitions" / "sub" / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(flow("x"))
    place = Directory(root / "definitions", LARGEST)
    return place, file, {each.path: each for each in place.look({}, 0).changed}


@pytest.mark.parametrize("make", [_link_out, _below_a_link_out, os.mkfifo, _too_large])
def test_what_takes_a_good_files_place_is_not_read_for_it(tmp_path: Path, make: Make) -> None:
    """Between a look and a second reading; the next look says what it is."""
    place, file, known = _good(tmp_path)
    assert place.read(known, ["sub/x.yaml"]) == {"sub/x.yaml": flow("x").encode()}
    file.unlink()
    make(file)
    with ThreadPoolExecutor(1) as thread, _ended(file):
        assert thread.submit(place.read, known, ["sub/x.yaml"]).result(PATIENCE) == {}
    near = place.look(known, 0, near=["sub/x.yaml"]).changed
    assert [(each.content, each.digest) for each in near] == [(None, "")]


def test_what_was_refused_is_not_read_for_what_it_is_now(tmp_path: Path) -> None:
    """A good file in its place waits for the look that takes it as a whole."""
    place, file, _ = _good(tmp_path)
    file.unlink()
    _link_out(file)
    known = {each.path: each for each in place.look({}, 0).changed}
    file.unlink()
    file.write_text(flow("x"))
    assert place.read(known, ["sub/x.yaml"]) == {}
    assert [each.refusal for each in place.look(known, 0).changed] == [None]


@pytest.mark.parametrize("make", [_link_out, os.mkfifo, _too_large])
def test_what_is_refused_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    """To open a device may already do something."""
    place, file, _ = _good(tmp_path)
    file.unlink()
    make(file)
    opened_here: list[Any] = []
    monkeypatch.setattr(os, "open", lambda *given: opened_here.append(given))
    [found] = place.look({}, 0).changed
    assert (found.refusal is not None, opened_here) == (True, [])


def _grown(path: Path) -> None:
    path.write_text(flow("x", "x" * 1_000_000))


@pytest.mark.parametrize("make", [_link_out, os.mkfifo, _grown])
def test_what_takes_a_files_place_while_it_is_looked_at_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    """After it was found to be a small file of the source, and before it is opened."""
    place, file, _ = _good(tmp_path)
    read_here = 0
    really = os.read

    def read(descriptor: int, count: int) -> bytes:
        nonlocal read_here
        content = really(descriptor, count)
        read_here += len(content)
        return content

    monkeypatch.setattr(os, "read", read)
    _replace_late(monkeypatch, file, make)
    with ThreadPoolExecutor(1) as thread, _ended(file):
        [found] = thread.submit(place.look, {}, 0).result(PATIENCE).changed
    assert (found.content, found.digest) == (None, "")
    assert found.refusal is not None
    assert read_here < 100_000


def test_what_goes_while_it_is_looked_at_is_as_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no broken file: the next look finds it gone."""
    place, file, known = _good(tmp_path)
    file.write_text(flow("x", "two"))
    _replace_late(monkeypatch, file, lambda path: path)
    assert place.look(known, 0).changed == ()
    assert place.look(known, 0).removed == ("sub/x.yaml",)


def _replace_late(monkeypatch: pytest.MonkeyPatch, file: Path, make: Make) -> None:
    """Something else is in the file's place when it is opened next."""
    really = os.open

    def open_late(path: Any, flags: int) -> int:
        monkeypatch.setattr(os, "open", really)
        file.unlink()
        make(file)
        return really(path, flags)

    monkeypatch.setattr(os, "open", open_late)


@pytest.mark.parametrize("name", ["nowhere", "file", "long" * 2_000])
def test_a_source_that_is_no_directory_is_looked_for_again(tmp_path: Path, name: str) -> None:
    """Whatever it is instead, also where no directory can have its name."""
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="is not a directory, or is not there"):
        Directory(tmp_path / name, LARGEST).look({}, 0)
