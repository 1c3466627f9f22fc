"""`backup` and `restore`: copies of the database, without opening it as a controller would."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.output import print_fields, print_json
from controller.cli.session import base_options, format_option, note, settings_of

if TYPE_CHECKING:
    from controller.store.backup import Backup

DIRECTORY = "backups"
"""Below the state directory: where copies go when nobody says otherwise."""


@click.command("backup")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="A file; or a directory, in which the copy is named by the time.  [default: backups in"
    " the state directory]",
)
@click.option("--keep", type=click.IntRange(1), help="Remove all but the newest in the directory.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@format_option("--format", "-f")
@base_options
def backup(
    output: Path | None, keep: int | None, form: str, *, force: bool, **flags: str | Path | None
) -> None:
    """Copy the database to a file, also while a controller works; the copy is checked."""
    from controller.clock import SystemClock  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.store import backup as copies  # ruff: ignore[import-outside-top-level]  # start-up time

    settings, clock = settings_of(flags), SystemClock()
    begun = clock.monotonic()
    directory = settings.state_dir / DIRECTORY if output is None else output
    named = output is not None and not output.is_dir() and not str(output).endswith(os.sep)
    if named and keep is not None:
        message = "--keep goes with a directory: copies there are named by their time."
        raise click.UsageError(message, click.get_current_context())
    target = directory if named else directory / copies.file_name(clock.now())
    made = copies.backup(settings.url, target, replace=force, make_directory=output is None)
    removed = [] if keep is None else copies.remove_older(directory, keep)
    seconds = round(clock.monotonic() - begun, 3)
    if form == "json":
        gone = [str(each) for each in removed]
        print_json({**_plain(made), "seconds": seconds, "removed": gone})
    else:
        more = [("took", f"{seconds:g} s"), ("removed", ", ".join(each.name for each in removed))]
        print_fields([*_shown(made), *(pair for pair in more if pair[1])])


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a database that is there; it is kept.")
@format_option("--format", "-f")
@base_options
def restore(file: Path, form: str, *, force: bool, **flags: str | Path | None) -> None:
    """Put a copy in the place of the database; nothing executes before `windlass run`."""
    from controller.clock import SystemClock  # ruff: ignore[import-outside-top-level]  # start-up time
    from controller.store.restore import restore as put_back  # ruff: ignore[import-outside-top-level]  # start-up time

    settings = settings_of(flags)
    done = put_back(file, settings.url, now=SystemClock().now(), by="local", replace=force)
    kept = str(done.kept) if done.kept else None
    if form == "json":
        print_json({**_plain(done.database), "kept": kept})
    else:
        print_fields([*_shown(done.database), ("kept", kept or "")])
    if done.database.unfinished:
        note("what is unfinished goes on with `windlass run`; `workflows:cancel` works before it")


def _plain(found: "Backup") -> dict[str, object]:
    return {
        "path": str(found.path),
        "size": found.size,
        "executions": found.executions,
        "unfinished": found.unfinished,
        "schema": found.schema,
    }


def _shown(found: "Backup") -> list[tuple[str, str]]:
    return [
        ("path", str(found.path)),
        ("size", f"{found.size:,} bytes"),
        ("executions", f"{found.executions:,}, {found.unfinished:,} of them unfinished"),
        ("schema", found.schema),
    ]
