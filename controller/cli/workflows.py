"""`workflows:list`, `:create`, `:delete`, `:validate`, `:export`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.ending import DONE, FAILED
from controller.cli.output import local, print_json, print_table
from controller.cli.session import format_option, note, with_app, with_lookup

if TYPE_CHECKING:
    from controller.app import App
    from controller.lookup import Lookup

STATUSES = ("active", "inactive", "archived")

workflow_option = click.option("--id", "-i", "workflow", required=True, help="The workflow's name.")


@click.command("workflows:list")
@click.option("--status", "-s", type=click.Choice(STATUSES), help="Only those with this status.")
@click.option("--search", "-q", "text", help="Only those with this in name, description or labels.")
@format_option("--format", "-f")
@with_lookup
async def list_workflows(
    lookup: "Lookup", *, status: str | None, text: str | None, form: str
) -> None:
    """List workflows; without --status, all that are not archived."""
    found = await lookup.list_workflows(status, text)
    if form == "json":
        print_json(found)
        return
    print_table(
        ("NAME", "VERSION", "STATUS", "ORIGIN", "UPDATED", "DESCRIPTION"),
        [
            (
                each.name,
                each.version,
                each.status,
                each.path or each.origin,
                local(each.updated_at),
                each.description,
            )
            for each in found
        ],
        "no workflows",
    )


@click.command("workflows:create")
@click.option(
    "--file", "-f", "path", required=True, type=click.Path(path_type=Path), help="YAML or JSON."
)
@click.option("--name", "-n", help="Instead of the name in the file.")
@with_app
async def create(app: "App", *, path: Path, name: str | None) -> None:
    """Create a workflow that no source owns, with the actions defined in its file."""
    record = await app.service.create_workflow_from_file(path, name=name)
    click.echo(f"created {record.name} {record.version} ({record.digest[:12]})")


@click.command("workflows:delete")
@workflow_option
@with_app
async def delete(app: "App", *, workflow: str) -> None:
    """Archive a workflow that no source owns, and stop its schedules; its history stays."""
    await app.service.delete_workflow(workflow)
    click.echo(f"archived {workflow}")


@click.command("workflows:validate")
@click.option(
    "--file",
    "-f",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="A file or a directory.",
)
@format_option("--format")
@with_app
async def validate(app: "App", *, path: Path, form: str) -> int:
    """Check definitions, without recording anything; exit status 1 if one is wrong."""
    from controller.cli.annotations import from_here  # ruff: ignore[import-outside-top-level]  # start-up time

    found = await app.service.validate_workflow(path)
    told = from_here(found.diagnostics, path) if path.is_dir() else found.diagnostics  # ruff: ignore[blocking-path-method-in-async-function]  # one look
    status = DONE if found.valid else FAILED
    if form == "json":
        print_json({
            "valid": found.valid,
            "definitions": found.definitions,
            "diagnostics": [each.as_json() for each in told],
        })
        return status
    for each in told:
        click.echo(each.render(), err=True)
    if found.valid:
        names = ", ".join(f"{each['kind']} {each['name']}" for each in found.definitions)
        click.echo(f"{path}: valid ({names or 'nothing is defined'})")
    else:
        errors = sum(each.severity == "error" for each in found.diagnostics)
        note(f"{path}: {errors} {'problem' if errors == 1 else 'problems'}")
    return status


@click.command("workflows:export")
@workflow_option
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A file; default: print it.")
@with_app
async def export(app: "App", *, workflow: str, output: Path | None) -> None:
    """Print a workflow as YAML, with the defined actions it calls."""
    from controller.cli.writing import write  # ruff: ignore[import-outside-top-level]  # start-up time

    text = await app.service.export_workflow(workflow)
    if output is None:
        click.echo(text, nl=False)
        return
    write(output, text)
    click.echo(f"wrote {output}")
