"""`sync:now`, `sync:suspend`, `sync:resume`, `sync:rollback`, `sync:approve`, `sync:forget`."""

from typing import TYPE_CHECKING

import click

from controller.cli.ending import DONE, FAILED
from controller.cli.session import note, with_app
from controller.cli.sync import REVISION, source_argument

if TYPE_CHECKING:
    from controller.app import App
    from controller.store.records import SourceRecord

LOOK = 0.05
"""Seconds between looks at a status that is waited for."""


@click.command("sync:now")
@source_argument()
@click.option("--timeout", default=60, show_default=True, help="Seconds to wait for the result.")
@with_app
async def now(app: "App", *, name: str | None, timeout: int) -> int:  # ruff: ignore[async-function-with-timeout]  # the person's
    """Look at a source at once, and wait for what comes of it."""
    since = await app.sources.sync_now(name)
    return _ending(await _looked_at(app, name, since, timeout))


async def _looked_at(app: "App", name: str | None, since: int, seconds: int) -> "SourceRecord":
    """The source once it was looked at; `Unavailable` when nobody does."""
    from controller.core.problem import Unavailable  # ruff: ignore[import-outside-top-level]  # start-up time

    end = app.clock.monotonic() + seconds
    while True:
        source = await app.sources.source(name)
        if (source.checked_at or 0) >= since:
            return source
        if app.clock.monotonic() > end:
            raise Unavailable(
                f"nobody looked at {source.id!r} within {seconds} s; is `windlass run` at work?"
            )
        await app.clock.sleep(LOOK)


def _ending(source: "SourceRecord") -> int:
    shown = f"{source.id}: {source.phase} at {(source.revision or 'none')[:REVISION]}"
    click.echo(shown)
    if source.message:
        note(source.message)
    return FAILED if source.phase in {"failed", "rejected", "degraded"} else DONE


@click.command("sync:suspend")
@source_argument()
@with_app
async def suspend(app: "App", *, name: str | None) -> None:
    """Apply nothing of a source until it is resumed; schedules and executions go on."""
    await app.sources.suspend(name)
    click.echo("suspended; `windlass sync:resume` follows the source again")


@click.command("sync:resume")
@source_argument()
@with_app
async def resume(app: "App", *, name: str | None) -> None:
    """Follow a source again, after sync:suspend or sync:rollback."""
    await app.sources.resume(name)
    click.echo("resumed")


@click.command("sync:rollback")
@source_argument()
@click.option("--revision", help="One that sync:history lists; default: the one before.")
@with_app
async def rollback(app: "App", *, name: str | None, revision: str | None) -> None:
    """Go back to a revision that was applied before, and stay there until it is resumed."""
    target = await app.sources.rollback(name, revision)
    click.echo(
        f"going back to {target[:REVISION]}; `windlass sync:resume` follows the source again"
    )


@click.command("sync:approve")
@source_argument()
@with_app
async def approve(app: "App", *, name: str | None) -> None:
    """Let the revision that waits archive as many workflows as it does."""
    revision = await app.sources.approve(name)
    click.echo(f"approved {revision[:REVISION]}")


@click.command("sync:forget")
@source_argument(required=True)
@with_app
async def forget(app: "App", *, name: str) -> None:
    """Archive the workflows of a source that the settings do not name any more."""
    archived = await app.sources.forget(name)
    click.echo(f"forgot {name}; {archived} workflows archived")
