"""T5: definitions known and validated: cold, warm, and one change live."""

import asyncio
import gc
import multiprocessing
import os
import time
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from controller.app import crew_of_this_machine, open_app, run_main
from controller.cli.ending import COLLECT
from controller.interpreter import loading
from controller.logs import get_log, load_log
from controller.reconcile import Crew, Reconciler, mark_removed
from controller.reconcile.ahead import rehearse
from controller.settings import Settings
from controller.source.limits import Limits as Bounds
from controller.source.yaml12 import compose
from tests.bench.engine import row
from tests.bench.limits import Limits
from tests.bench.table import Row
from tests.gitops.repository import Repository

TEXT = """name: workflow-{number}
description: One of many
inputs:
  - {{name: day, type: string, default: today}}
triggers:
  - type: scheduled
    config: {{cron: "{minute} 3 * * *"}}
steps:
  - id: fetch
    type: action
    action: shell
    inputs:
      command: echo "${{day}}"
  - id: keep
    type: action
    action: set
    inputs: {{kept: "${{stdout}}"}}
    when: ${{exit_code == 0}}
outputs:
  - {{name: kept, source: keep}}
"""
UNLIKE = TEXT.replace("action: set\n", "action: set\n    timeout: {number}s\n")
"""The same, no two compiled alike."""

CHANGES = 30

OLD = 1_700_000_000
"""Seconds; when the files were last written."""


@asynccontextmanager
async def _reconciler(
    folder: Path, source: Path, crew: Crew | None = None
) -> AsyncGenerator[Reconciler, None]:
    settings = Settings(state_dir=folder, source=str(source), resync_interval=600_000)
    async with open_app(settings, crew) as app:
        if crew is None:  # not a start: a daemon has written something by then, as this
            await app.store.write(mark_removed, list(app.specs))
        yield app.reconciler(app.specs["definitions"], lambda: None)


def _start(folder: Path, source: Path, count: int) -> float:
    """As `windlass run` starts: in a process of its own, which forks its crew first."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_started, folder, source, count).result()


def _started(folder: Path, source: Path, count: int) -> float:
    gc.set_threshold(*COLLECT)
    load_log()
    with crew_of_this_machine() as crew:
        return run_main(_once(folder, source, count, crew))


async def _once(folder: Path, source: Path, count: int, crew: Crew) -> float:
    async with _reconciler(folder, source, crew) as reconciler:
        begin = time.perf_counter()
        with loading():
            outcome = await reconciler.reconcile()
        seconds = time.perf_counter() - begin
        assert not outcome.invalid, outcome.invalid[:3]
        assert reconciler._library is not None
        assert len(reconciler._library.files) == count
        return seconds


def _parsed(source: Path) -> float:
    """The limit: seconds one core takes to make nodes with positions of all the files."""
    texts = [each.read_text() for each in sorted(source.iterdir())]
    with loading():
        begin = time.perf_counter()
        for text in texts:
            for _ in compose(text, Bounds()):
                pass
        return time.perf_counter() - begin


async def _changes(folder: Path, source: Path) -> list[float]:
    """Milliseconds from a file's replacement to its commit, file events included."""
    found: list[float] = []
    get_log("windlass").info("ready")  # the daemon has said so when files change
    async with _reconciler(folder, source) as reconciler:
        loop = asyncio.ensure_future(reconciler.run())
        await reconciler.first.wait()
        await reconciler._store.read(rehearse, reconciler.id)  # it does; no author is as quick
        for number in range(CHANGES):
            target = source / f"w{number}.yaml"
            applied = asyncio.Event()
            reconciler._applied = applied.set  # the moment of the commit
            fresh = target.with_suffix(".tmp")
            fresh.write_text(target.read_text() + f"labels: {{change: c{time.time_ns()}}}\n")
            begin = time.perf_counter()
            fresh.replace(target)
            await applied.wait()
            found.append((time.perf_counter() - begin) * 1000)
        reconciler.stop()
        await loop
    return found


def _repository(folder: Path, source: Path) -> Repository:
    """The same files, committed and pushed."""
    repository = Repository(folder)
    for file in source.iterdir():
        repository.write(file.name, file.read_text())
    repository.commit()
    return repository


async def _pushes(folder: Path, source: Path) -> list[float]:
    """Milliseconds from a push that is announced to its commit, the fetch included."""
    repository = _repository(folder, source)
    found: list[float] = []
    given: dict[str, Any] = {"sources": [{"name": "git", "url": repository.url}]}
    async with open_app(
        Settings(state_dir=folder / "state", resync_interval=600_000, **given)
    ) as app:
        applied = asyncio.Event()
        reconciler = app.reconciler(app.specs["git"], applied.set)
        loop = asyncio.ensure_future(reconciler.run())
        await reconciler.first.wait()
        for number in range(CHANGES):
            path = f"w{CHANGES + number}.yaml"  # the first ones have their labels already
            text = (source / path).read_text() + f"labels: {{change: p{number}}}\n"
            await asyncio.to_thread(repository.put, path, text)
            applied.clear()
            begin = time.perf_counter()
            reconciler.look_again()  # as the webhook does, once the signature is verified
            await applied.wait()
            found.append((time.perf_counter() - begin) * 1000)
        reconciler.stop()
        await loop
    return found


def _written(source: Path, count: int, text: str) -> Path:
    """Files that were written long ago: what was written a moment ago is looked at twice."""
    source.mkdir()
    for number in range(count):
        file = source / f"w{number}.yaml"
        file.write_text(text.format(number=number + 1, minute=number % 60))
        os.utime(file, (OLD, OLD))
    return source


def rows(limits: Limits, folder: Path) -> Iterable[Row]:
    """Seconds and milliseconds; one cold round a size, because a round is a fresh database."""
    del limits
    for count, target in ((1_000, 0.4), (10_000, 2.5)):
        source = _written(folder / f"definitions-{count}", count, TEXT)
        state = folder / f"state-{count}"
        parse = _parsed(source)
        cold = [_start(state / str(each), source, count) for each in range(3)]
        yield row(f"T5 {count:,} files, cold", "s", cold, target=target, limit=parse)
        warm = [_start(state / "0", source, count) for _ in range(3)]
        yield row(f"T5 {count:,} files, warm", "s", warm, target=0.5, limit=parse)
        changes = run_main(_changes(state / "0", source))
        yield row(f"T5 {count:,} files, one change live, median", "ms", changes, target=25)
        yield row(f"T5 {count:,} files, one change live, worst", "ms", [max(changes)], target=25)
    unlike = _written(folder / "unlike", 10_000, UNLIKE)
    cold = [_start(folder / f"state-unlike-{each}", unlike, 10_000) for each in range(3)]
    parse = _parsed(unlike)
    yield row("T5 10,000 files, no two alike, cold", "s", cold, target=2.5, limit=parse)
    pushes = run_main(_pushes(folder / "git", folder / "definitions-10000"))
    yield row("T5 10,000 files, one push live, median", "ms", pushes, target=100)
    yield row("T5 10,000 files, one push live, worst", "ms", [max(pushes)], target=100)
