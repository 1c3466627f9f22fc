"""`doctor`: whether everything needed is here and well; it goes on where other commands stop."""

import os
import platform
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from controller.cli.backup import DIRECTORY
from controller.cli.ending import DONE, FAILED
from controller.cli.output import local, print_json, print_table
from controller.cli.session import base_options, format_option, settings_of
from controller.core.printable import printable

if TYPE_CHECKING:
    from controller.doctor.examine import Manner
    from controller.doctor.finding import Report
    from controller.settings import Settings
    from controller.store.direct import Direct
    from controller.store.lock import Holder

LOW_DISK = 256 * 1024 * 1024
"""Bytes below which the disk is nearly full."""

OLDEST_PYTHON = (3, 11)

NOT_BEFORE = 1_767_225_600_000
"""2026-01-01: a clock that shows less was never set."""


class Check(NamedTuple):
    """One thing looked at: `ok`, `warning`, `failed` or `repaired`.

    Attributes:
        subjects: How many a finding concerns.
        concerns: The first of them, each with what exactly is wrong.
        hint: What to do.
    """

    name: str
    result: str
    detail: str
    subjects: int = 0
    concerns: tuple[str, ...] = ()
    hint: str | None = None


@click.command("doctor")
@click.option("--full", is_flag=True, help="Look at everything, not only what goes on.")
@click.option("--repair", is_flag=True, help="Mend what can be mended; not beside a controller.")
@click.option("--source", help="The definitions, where `run` was given them.")
@format_option("--format", "-f")
@base_options
def doctor(form: str, *, full: bool, repair: bool, **flags: str | Path | None) -> int:
    """Check that all is well, the database too; exit status 1 if something is not."""
    checks = list(_examine(flags, full=full, repair=repair))
    if form == "json":
        print_json([check._asdict() for check in checks])
    else:
        cut = print_table(("CHECK", "RESULT", "DETAIL"), [check[:3] for check in checks], "")
        _print_findings(checks, cut)
    return FAILED if any(check.result == "failed" for check in checks) else DONE


def _print_findings(checks: list[Check], cut: Collection[int]) -> None:
    """Below the table: what each finding concerns, and what to do; whole what was cut of it."""
    for number, check in enumerate(checks):
        was_cut = number in cut and check.result != "ok"
        if not (was_cut or check.concerns or check.hint):
            continue
        click.echo(f"\n{check.name} ({check.result})")
        if was_cut:
            click.echo(f"  {printable(check.detail)}")
        for each in check.concerns:
            click.echo(f"  {each}")
        if check.subjects > len(check.concerns):
            click.echo(f"  … {check.subjects:,} in all")
        if check.hint:
            click.echo(f"  hint: {check.hint}")


def _examine(flags: dict[str, str | Path | None], *, full: bool, repair: bool) -> Iterator[Check]:
    from controller.core.problem import Refused  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.given import unknown_variables  # ruff: ignore[import-outside-top-level]  # start-up time

    yield from _machine()
    try:
        settings = settings_of(flags)
    except Refused as error:
        yield Check("settings", "failed", str(error))
        return
    named = ", ".join(each.name for each in settings.sources) or settings.source
    yield Check("settings", "ok", f"source {named}, {settings.http_address}")
    for name, hint in unknown_variables(type(settings).model_fields).items():
        yield Check("settings", "warning", f"{name} is no setting and is ignored; {hint}")
    yield from _places(settings)
    yield from _inside(settings, full=full, repair=repair)


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
    for spec in settings.specs:
        name = f"source {spec.name}" if settings.sources else "source"
        there = spec.type == "git" or spec.root.is_dir()  # what a repository has, `sync` says
        detail = spec.location if there else f"{spec.root} is not a directory"
        yield Check(name, "ok" if there else "failed", detail)
    support = probe()
    lacking = f"{support.reason}; `sandbox:` is {settings.sandbox}"
    result = "failed" if settings.sandbox == "required" else "warning"
    yield Check("sandbox", "ok" if support.bwrap else result, support.bwrap or lacking)


# -- the database -----------------------------------------------------------------------------


def _inside(settings: "Settings", *, full: bool, repair: bool) -> Iterator[Check]:
    """What only the database can tell; it is neither made nor migrated."""
    from controller.core.problem import Refused, Unavailable  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.store.direct import Direct  # ruff: ignore[import-outside-top-level]  # start-up time

    try:
        with Direct.open(settings.url) as database:
            yield from _opened(database, settings, full=full, repair=repair)
    except (Refused, Unavailable) as error:
        reason = getattr(error, "reason", "")
        if reason == "database-locked":
            raise
        name = _UNUSABLE.get(reason, "database")
        yield Check(name, "failed", str(error), hint=getattr(error, "hint", None))


_UNUSABLE = {
    "not-found": "database-missing",
    "newer-schema": "schema-ahead",
    "database-damaged": "database-damaged",
}
"""Reasons of a refusal, and what they are called here."""


def _opened(
    database: "Direct", settings: "Settings", *, full: bool, repair: bool
) -> Iterator[Check]:
    from controller.clock import SystemClock  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.doctor.examine import Manner  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.store.lock import ControllerLock  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.store.opening import HEAD  # ruff: ignore[import-outside-top-level]  # start-up time

    if not database.is_current:
        detail = f"{database.where} has the schema {database.revision}, and this Windlass {HEAD}"
        hint = "make a backup; the next `windlass run` migrates it"
        yield Check("schema-behind", "failed", detail, hint=hint)
        return
    now = SystemClock().now()
    if repair:
        settings.state_dir.mkdir(parents=True, exist_ok=True)  # where controllers have their lock
    lock = ControllerLock(database.path or settings.state_dir, "doctor")
    holder = lock.holder()
    manner = Manner(full, repair)
    with ExitStack() as held:
        if repair:
            held.enter_context(lock.acquire(now))
        yield from _database(database, settings, holder, manner, now)
    yield _controller(holder)
    yield _clock(database)
    yield from _sources(database)


def _database(
    database: "Direct",
    settings: "Settings",
    holder: "Holder | None",
    manner: "Manner",
    now: int,
) -> Iterator[Check]:
    """The database's own check, and a check for each kind of finding."""
    from controller.doctor.examine import Examination, around_of  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.doctor.files import judge_files, mend_file  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.execute.action import Registry  # ruff: ignore[import-outside-top-level]  # start-up time

    around = around_of(database, holder, now)
    report = Examination(database, Registry(_unused).signatures, around, manner).run()
    backups = settings.state_dir / DIRECTORY
    for finding in judge_files(
        database.path, settings.state_dir, backups, alone=holder is None or manner.repair
    ):
        report.add(finding, mended=manner.repair and mend_file(finding, database))
    looked = ", ".join(f"{count:,} {what}" for what, count in report.looked.items() if count)
    quick = "" if manner.full else " (quick: `--full` looks at all)"
    yield Check(
        "database", "ok", f"{database.where}: looked at {looked or 'nothing: it is empty'}{quick}"
    )
    yield from _findings(report)


def _unused(name: str) -> Any:  # ruff: ignore[any-type]  # it never returns
    raise LookupError(name)  # what replays calls no action


def _findings(report: "Report") -> Iterator[Check]:
    from controller.doctor.finding import KINDS  # ruff: ignore[import-outside-top-level]  # start-up time

    for name, kind in KINDS.items():
        tally = report.tallies.get(name)
        if tally is None:
            continue
        mended = tally.mended == tally.found
        detail = f"{kind.meaning}: {tally.found:,}"
        if tally.mended and not mended:
            detail += f", {tally.mended:,} of them repaired"
        yield Check(
            name,
            "repaired" if mended else kind.result,
            f"{detail} ({tally.named[0]}{' …' if tally.found > 1 else ''})",
            tally.found,
            tuple(map(str, tally.named)),
            None if mended else kind.hint,
        )


def _controller(holder: "Holder | None") -> Check:
    if holder is None:
        return Check("controller", "ok", "none is at work on this machine")
    since = f"process {holder.pid} ({holder.role}) since {local(holder.since)}"
    return Check("controller", "ok", since)


def _sources(database: "Direct") -> Iterator[Check]:
    from controller.doctor.finding import UNREADABLE  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.store import ledger  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.store.doctor import source_ids  # ruff: ignore[import-outside-top-level]  # start-up time

    try:
        names = database.read(source_ids)
    except UNREADABLE as error:
        yield Check("rows-unreadable", "failed", f"sources: {error}", hint="restore a backup")
        return
    for name in names:
        try:
            each = database.read(ledger.source, name)
        except UNREADABLE as error:
            yield Check(f"sync {name}", "failed", f"it cannot be read: {error}")
            continue
        if each is not None:
            result = "ok" if each.phase == "ready" else "warning"
            yield Check(f"sync {name}", result, f"{each.location}: {each.message or each.phase}")


def _clock(database: "Direct") -> Check:
    """A clock that was set back fires schedules again late: compare it with what is recorded."""
    from controller.clock import SystemClock  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.store.doctor import newest_creation  # ruff: ignore[import-outside-top-level]  # start-up time

    latest = max(database.read(newest_creation) or 0, NOT_BEFORE)
    now = SystemClock().now()  # after the look, beside which executions are created
    if now < latest:
        return Check("clock", "failed", f"{local(now)} is before {local(latest)}, which has passed")
    return Check("clock", "ok", local(now))
