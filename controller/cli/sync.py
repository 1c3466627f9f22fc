"""`sync:status`, `sync:plan`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.output import iso, local, plain, print_json, print_table
from controller.cli.session import as_format, with_app
from controller.source.parse import Diagnostic

if TYPE_CHECKING:
    from controller.app import App


@click.command("sync:status")
@as_format
@with_app
async def status(app: "App", form: str) -> None:
    """Show each source, its files, and what is wrong with them."""
    found = await app.service.sync_status()
    if form == "json":
        print_json([{"source": each.source, "files": each.files} for each in found])
        return
    if not found:
        click.echo("no source has been looked at; `windlass run` does")
    for each in found:
        source = each.source
        click.echo(f"source    {source.id} ({source.type} {source.location})")
        click.echo(f"phase     {source.phase}{f': {source.message}' if source.message else ''}")
        click.echo(
            f"revision  {(source.revision or '-')[:12]}, applied {local(source.applied_at) or '-'}"
        )
        click.echo()
        print_table(
            ("FILE", "STATUS", "DEFINES"),
            [
                (file.path, file.status, ", ".join(f"{one['kind']} {one['name']}" for one in file.definitions))
                for file in each.files
            ],
            "no files",
        )  # fmt: skip
        for file in each.files:
            for problem in file.problems:
                click.echo()
                click.echo(Diagnostic(**problem).render())


@click.command("sync:plan")
@click.option(
    "--source", type=click.Path(path_type=Path), help="A directory; default: the setting."
)
@as_format
@with_app
async def plan(app: "App", source: Path | None, form: str) -> int:
    """Show what a directory would change; exit status 0: nothing, 2: changes, 1: problems."""
    directory = source if source is not None else Path(app.settings.source)
    found = await app.service.plan(directory)
    if form == "json":
        print_json({
            "changes": plain(found.changes),
            "next_fires": {
                name: [iso(due) for due in dues] for name, dues in found.next_fires.items()
            },
            "diagnostics": [each.as_json() for each in found.diagnostics],
        })
        return found.exit_status
    print_table(
        ("CHANGE", "WORKFLOW", "FILE", "NEXT FIRES"),
        [
            (
                each.kind if each.owner is None else f"{each.kind} (owned by {each.owner})",
                each.name,
                each.path or "",
                ", ".join(local(due) for due in found.next_fires.get(each.name, [])[:2]),
            )
            for each in found.changes
        ],
        "nothing would change",
    )
    for each in found.diagnostics:
        click.echo(each.render(), err=True)
    return found.exit_status
