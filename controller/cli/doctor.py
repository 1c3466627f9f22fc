"""`doctor`: whether everything needed is here and well; it goes on where other commands stop."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from controller.cli.ending import DONE, FAILED
from controller.cli.output import local, print_json, print_table
from controller.cli.session import base_options, format_option, settings_of

if TYPE_CHECKING:
    from controller.app import App
    from controller.settings import Settings

LOW_DISK = 256 * 1024 * 1024
"""Bytes below which the disk is nearly full."""

OLDEST_PYTHON = (3, 11)

NOT_BEFORE = 1_767_225_600_000
"""2026-01-01: a clock that shows less was never set."""


class Check(NamedTuple):
    """One thing looked at: `ok`, `warning` or `failed`."""

    name: str
    result: str
    detail: str


@click.command("doctor")
@format_option("--format", "-f")
@base_options
def doctor(form: str, **flags: str | Path | None) -> int:
    """Check that everything needed is here and well; exit status 1 if something is not."""
    import asyncio  # ruff: ignore[import-outside-top-level]  # start-up time

    checks = asyncio.run(_examine(flags))
    if form == "json":
        print_json([check._asdict() for check in checks])
    else:
        print_table(("CHECK", "RESULT", "DETAIL"), checks, "")
    return FAILED if any(check.result == "failed" for check in checks) else DONE


async def _examine(flags: dict[str, str | Path | None]) -> list[Check]:
    from controller.core.problem import Refused  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.settings import unknown_variables  # ruff: ignore[import-outside-top-level]  # start-up time

    found = [*_machine()]
    try:
        settings = settings_of(flags)
    except Refused as error:
        return [*found, Check("settings", "failed", str(error))]
    found.append(Check("settings", "ok", f"source {settings.source}, {settings.http_address}"))
    found += (
        Check("settings", "warning", f"{name} is no setting and is ignored; {hint}")
        for name, hint in unknown_variables().items()
    )
    found += _places(settings)
    return found + await _inside(settings)


def _machine() -> Iterator[Check]:
    """What is there before any setting is read."""
    fit = sys.version_info[:2] >= OLDEST_PYTHON
    version = f"{platform.python_version()} ({sys.executable})"
    yield Check("python", "ok" if fit else "failed", version)
    git = shutil.which("git")
    yield Check("git", "ok" if git else "warning", git or "not installed")


def _places(settings: "Settings") -> Iterator[Check]:
    """Directories, the disk below them, and what sandboxes are made of."""
    from controller.execute.sandbox import probe  # ruff: ignore[import-outside-top-level]  # start-up time

    state, existing = settings.state_dir.absolute(), settings.state_dir.absolute()
    while not existing.exists():
        existing = existing.parent
    usable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    detail = f"{state}" if usable else f"{existing} is not a directory we may write to"
    yield Check("state directory", "ok" if usable else "failed", detail)
    free = shutil.disk_usage(existing).free
    yield Check("disk", "warning" if free < LOW_DISK else "ok", f"{free // 1024**2:,} MiB free")
    source = Path(settings.source)
    there = source.is_dir()
    detail = str(source.absolute()) if there else f"{source} is not a directory"
    yield Check("source", "ok" if there else "failed", detail)
    support = probe()
    lacking = f"{support.reason}; `sandbox:` is {settings.sandbox}"
    result = "failed" if settings.sandbox == "required" else "warning"
    yield Check("sandbox", "ok" if support.bwrap else result, support.bwrap or lacking)


async def _inside(settings: "Settings") -> list[Check]:
    """What only an open database can tell."""
    from controller.app import open_app  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.core.problem import Refused, Unavailable  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.logs import configure_logs  # ruff: ignore[import-outside-top-level]  # start-up time

    configure_logs("warning", "console")
    try:
        async with open_app(settings) as app:
            return [await _database(app), _controller(app), await _clock(app), *await _sources(app)]
    except (Refused, Unavailable) as error:
        return [Check("database", "failed", str(error))]


async def _database(app: "App") -> Check:
    problems = await app.service.integrity()
    return Check("database", "failed" if problems else "ok", "; ".join(problems) or app.store.where)


def _controller(app: "App") -> Check:
    holder = app.lock("doctor").holder()
    if holder is None:
        return Check("controller", "ok", "none is at work on this machine")
    since = f"process {holder.pid} ({holder.role}) since {local(holder.since)}"
    return Check("controller", "ok", since)


async def _sources(app: "App") -> list[Check]:
    found = await app.sources.statuses()
    return [
        Check(
            f"sync {each.source.id}",
            "ok" if each.source.phase == "ready" else "warning",
            each.source.message or each.source.phase,
        )
        for each in found
    ]


async def _clock(app: "App") -> Check:
    """A clock that was set back fires schedules again late: compare it with what is recorded."""
    now = app.clock.now()
    newest = await app.service.list_executions(limit=1)
    latest = max((each.created_at for each in newest), default=NOT_BEFORE)
    if now < latest:
        return Check("clock", "failed", f"{local(now)} is before {local(latest)}, which has passed")
    return Check("clock", "ok", local(now))
