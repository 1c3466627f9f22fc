"""`doctor`: whether everything needed is here and well."""

import platform
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from controller.cli.output import print_json, print_table
from controller.cli.session import FAILED, as_format, with_app

if TYPE_CHECKING:
    from controller.app import App


LOW_DISK = 256 * 1024 * 1024


class Check(NamedTuple):
    """One thing looked at: `ok`, `warning` or `failed`."""

    name: str
    result: str
    detail: str


@click.command("doctor")
@as_format
@with_app
async def doctor(app: "App", form: str) -> int:
    """Check that everything needed is here and well; exit status 1 if something is not."""
    checks = [check async for check in _checks(app)]
    if form == "json":
        print_json([check._asdict() for check in checks])
    else:
        print_table(("CHECK", "RESULT", "DETAIL"), checks, "")
    return FAILED if any(check.result == "failed" for check in checks) else 0


async def _checks(app: "App") -> AsyncIterator[Check]:
    from controller.execute.sandbox import probe  # noqa: PLC0415  # start-up time

    settings = app.settings
    version = platform.python_version()
    yield Check("python", "ok", f"{version} ({sys.executable})")
    yield Check("state directory", "ok", str(settings.state_dir.absolute()))
    free = shutil.disk_usage(settings.state_dir).free
    low = "warning" if free < LOW_DISK else "ok"
    yield Check("disk", low, f"{free // 1024**2:,} MiB free")
    problems = await app.service.integrity()
    detail = "; ".join(problems[:3]) or app.store.where
    yield Check("database", "failed" if problems else "ok", detail)
    lock = app.lock("doctor")
    holder = lock.holder() if lock is not None else None
    at_work = f"process {holder.pid} ({holder.role})" if holder else "none is at work"
    yield Check("controller", "ok", at_work)
    source = Path(settings.source)
    found = source.is_dir()
    yield Check(
        "source",
        "ok" if found else "failed",
        str(source) if found else f"{source} is not a directory",
    )
    git = shutil.which("git")
    yield Check("git", "ok" if git else "warning", git or "not installed")
    support = probe()
    missing = f"{support.reason}; `sandbox:` is {settings.sandbox}"
    yield Check("sandbox", "ok" if support.bwrap else "warning", support.bwrap or missing)
    for each in await app.service.sync_status():
        good = each.source.phase == "ready"
        message = each.source.message or each.source.phase
        yield Check(f"sync {each.source.id}", "ok" if good else "warning", message)
