"""`workflows:list`, `:create`, `:delete`, `:validate`, `:export`."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.cli.output import local, print_json, print_table
from controller.cli.session import FAILED, as_format, note, with_app

if TYPE_CHECKING:
    from controller.app import App


STATUSES = click.Choice(["active", "inactive", "archived"])


@click.command("workflows:list")
@click.option("--status", "-s", type=STATUSES, help="Only those with this status.")
@click.option("--search", "-q", "text", help="Only those with this in name, description or labels.")
@as_format
@with_app
async def list_workflows(app: "App", status: str | None, text: str | None, form: str) -> None:
    """List workflows; without --status, all that are not archived."""
    found = await app.service.list_workflows(status, text)
    if form == "json":
        print_json(found)
        return
    print_table(
        ("NAME", "VERSION", "STATUS", "ORIGIN", "UPDATED", "DESCRIPTION"),
        [
            (each.name, each.version, each.status, each.path or each.origin,
             local(each.updated_at), each.description)
            for each in found
        ],
        "no workflows",
    )  # fmt: skip


@click.command("workflows:create")
@click.option(
    "--file", "-f", "path", required=True, type=click.Path(path_type=Path), help="YAML or JSON."
)
@click.option("--name", "-n", help="Instead of the name in the file.")
@with_app
async def create(app: "App", path: Path, name: str | None) -> None:
    """Create a workflow that no source owns, with the actions defined in its file."""
    record = await app.service.create_workflow_from_file(path, name=name)
    click.echo(f"created {record.name} {record.version} ({record.digest[:12]})")


@click.command("workflows:delete")
@click.option("--id", "-i", "workflow", required=True, help="The workflow's name.")
@with_app
async def delete(app: "App", workflow: str) -> None:
    """Archive a workflow and stop its schedules; its history stays."""
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
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", help="How to print."
)
@with_app
async def validate(app: "App", path: Path, form: str) -> int:
    """Check definitions, without recording anything; exit status 1 if one is wrong."""
    found = await app.service.validate_workflow(path)
    if form == "json":
        print_json({
            "valid": found.valid,
            "definitions": found.definitions,
            "diagnostics": [each.as_json() for each in found.diagnostics],
        })
        return 0 if found.valid else FAILED
    for each in found.diagnostics:
        click.echo(each.render(), err=True)
    if not found.valid:
        errors = sum(each.severity == "error" for each in found.diagnostics)
        note(f"{path}: {errors} {'problem' if errors == 1 else 'problems'}")
        return FAILED
    names = ", ".join(f"{each['kind']} {each['name']}" for each in found.definitions)
    click.echo(f"{path}: valid ({names or 'nothing defined'})")
    return 0


@click.command("workflows:export")
@click.option("--id", "-i", "workflow", required=True, help="The workflow's name.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A file; default: print it.")
@with_app
async def export(app: "App", workflow: str, output: Path | None) -> None:
    """Print a workflow as YAML, with the defined actions it calls."""
    text = await app.service.export_workflow(workflow)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        _write(output, text)
    except OSError as error:
        raise click.FileError(str(output), error.strerror or str(error)) from None
    click.echo(f"wrote {output}")


def _write(path: Path, text: str) -> None:
    """All of the file or nothing of it: a new one takes the old one's place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
