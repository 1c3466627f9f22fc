"""`sync:status`, `sync:plan`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.output import iso, local, print_fields, print_json, print_table
from controller.cli.session import format_option, with_app

if TYPE_CHECKING:
    from controller.app import App
    from controller.views import SourceStatus, SyncPlan

FIRES_SHOWN = 2
"""Next fires in the table; JSON has all that the plan has."""

REVISION = 12
"""Characters of a revision that people need."""


@click.command("sync:status")
@format_option("--format", "-f")
@with_app
async def status(app: "App", *, form: str) -> None:
    """Show each source, its files, and what is wrong with them."""
    found = await app.service.sync_status()
    if form == "json":
        print_json(found)
        return
    if not found:
        click.echo("no source has been looked at; `windlass run` does")
    for number, each in enumerate(found):
        if number:
            click.echo()
        _print_source(each)


def _print_source(each: "SourceStatus") -> None:
    from controller.source.diagnostic import Diagnostic  # ruff: ignore[import-outside-top-level]  # start-up time

    source = each.source
    print_fields([
        ("source", f"{source.id} ({source.type} {source.location})"),
        ("phase", f"{source.phase}: {source.message}" if source.message else source.phase),
        ("revision", (source.revision or "")[:REVISION]),
        ("applied", local(source.applied_at)),
        ("checked", local(source.checked_at)),
    ])
    click.echo()
    rows = [(file.path, file.status, _defined(file.definitions)) for file in each.files]
    print_table(("FILE", "STATUS", "DEFINES"), rows, "no files")
    for file in each.files:
        for problem in file.problems:
            click.echo()
            click.echo(Diagnostic(**problem).render())


def _defined(definitions: list[dict[str, str]]) -> str:
    return ", ".join(f"{each['kind']} {each['name']}" for each in definitions)


@click.command("sync:plan")
@click.option(
    "--source", type=click.Path(path_type=Path), help="A directory; default: the setting."
)
@format_option("--format", "-f")
@with_app
async def plan(app: "App", *, source: Path | None, form: str) -> int:
    """Show what a directory would change; exit status 0: nothing, 2: changes, 1: problems."""
    directory = source if source is not None else Path(app.settings.source)
    found = await app.service.plan(directory)
    if form == "json":
        print_json({
            "changes": found.changes,
            "next_fires": {
                name: [iso(due) for due in dues] for name, dues in found.next_fires.items()
            },
            "diagnostics": [each.as_json() for each in found.diagnostics],
        })
    else:
        _print_plan(found)
    return found.exit_status


def _print_plan(found: "SyncPlan") -> None:
    print_table(
        ("CHANGE", "WORKFLOW", "FILE", "NEXT FIRES"),
        [
            (
                each.kind if each.owner is None else f"{each.kind} (owned by {each.owner})",
                each.name,
                each.path or "",
                ", ".join(local(due) for due in found.next_fires.get(each.name, [])[:FIRES_SHOWN]),
            )
            for each in found.changes
        ],
        "nothing would change",
    )
    for diagnostic in found.diagnostics:
        click.echo(diagnostic.render(), err=True)
