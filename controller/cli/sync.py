"""`sync:status`, `sync:history`, `sync:plan`: what sources are and would become."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.cli.output import local, print_fields, print_json, print_table, took
from controller.cli.session import F, format_option, note, with_app
from controller.core.plain import iso

if TYPE_CHECKING:
    from controller.app import App
    from controller.store.records import FileRecord
    from controller.views import PlannedChange, SourceStatus, SyncPlan

REVISION = 12
"""Characters of a revision that people need."""

ABOUT = {
    "created": "+",
    "updated": "~",
    "pruned": "-",
    "refused": "!",
    "kept": "=",
}
"""The sign of each fate in a plan."""

FORMATS = ["text", "json", "github", "gitlab"]


def source_argument(*, required: bool = False) -> Callable[[F], F]:
    """The name of a source; it can be left out where there is one."""
    return click.argument("name", metavar="SOURCE", required=required)


@click.command("sync:status")
@source_argument()
@format_option("--format", "-f")
@with_app
async def status(app: "App", *, name: str | None, form: str) -> None:
    """Show each source, its files, and what is wrong with them."""
    found = [await app.sources.status(name)] if name else await app.sources.statuses()
    if form == "json":
        print_json(found)
        return
    if not found:
        click.echo("no source has been looked at; `windlass run` does")
    for number, each in enumerate(found):
        if number:
            click.echo()
        _print_source(each, app.clock.now())


def _print_source(each: "SourceStatus", now: int) -> None:
    from controller.source.diagnostic import Diagnostic  # ruff: ignore[import-outside-top-level]  # start-up time

    source = each.source
    fields = [
        ("source", f"{source.id} ({source.type} {source.location})"),
        ("phase", f"{source.phase}: {source.message}" if source.message else source.phase),
        ("revision", _revision(source.revision, source.commit)),
        ("applied", _ago(source.applied_at, now)),
        ("checked", _ago(source.checked_at, now)),
    ]
    if source.observed not in {None, source.revision}:
        fields.insert(3, ("newest", (source.observed or "")[:REVISION]))
    if source.next_at is not None:
        fields.append(("next try", f"{local(source.next_at)} (failures: {source.failures})"))
    print_fields(fields)
    click.echo()
    rows = [(file.path, file.status, _defined(file)) for file in each.files]
    print_table(("FILE", "STATUS", "LIVE"), rows, "no files")
    problems = [problem for file in each.files for problem in file.problems]
    for problem in [*problems, *(source.problems or [])]:
        click.echo()
        click.echo(Diagnostic(**problem).render())


def _revision(revision: str | None, commit: dict[str, Any] | None) -> str:
    short = (revision or "none")[:REVISION]
    return f"{short} {commit['subject']} ({commit['author']})" if commit else short


def _ago(moment: int | None, now: int) -> str:
    return f"{local(moment)} ({took(max(now - moment, 0))} ago)" if moment is not None else "never"


def _defined(file: "FileRecord") -> str:
    """What the file defines in force, each workflow with its version."""
    return ", ".join(
        f"{each['name']} {each.get('version', '')}".strip()
        if each["kind"] == "workflow"
        else f"action {each['name']}"
        for each in file.definitions
    )


@click.command("sync:history")
@source_argument()
@click.option("--limit", "-l", default=20, show_default=True, type=click.IntRange(1, 200))
@format_option("--format", "-f")
@with_app
async def history(app: "App", *, name: str | None, limit: int, form: str) -> None:
    """List the revisions of a source that were applied, newest first."""
    found = await app.sources.history(name, limit=limit)
    if form == "json":
        print_json(found)
        return
    rows = [
        (
            each.revision[:REVISION],
            local(each.applied_at),
            (each.commit or {}).get("author", ""),
            (each.commit or {}).get("subject", ""),
            ", ".join(f"{count} {fate}" for fate, count in each.counts.items()),
            "history rewritten" if each.rewritten else each.kind,
        )
        for each in found
    ]
    head = ("REVISION", "APPLIED", "AUTHOR", "SUBJECT", "WORKFLOWS", "HOW")
    print_table(head, rows, "nothing was applied yet")


@click.command("sync:plan")
@source_argument()
@click.option("--source", type=click.Path(path_type=Path), help="Plan the files of a directory.")
@click.option("--revision", help="Plan a commit, branch or tag of the source's repository.")
@click.option("--path-prefix", default="", help="The directory's path in the repository.")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="How to print; the last two annotate pull requests.",
)
@with_app
async def plan(app: "App", *, name: str | None, form: str, path_prefix: str, **of: Any) -> int:  # ruff: ignore[any-type]  # click's
    """Show what a source would change; exit status 0: nothing, 2: changes, 1: problems.

    Without --source and --revision: as the source is now.
    """
    source, revision = of["source"], of["revision"]
    if source is not None and revision is not None:
        raise click.UsageError("Give one of --source and --revision.", click.get_current_context())
    found = await app.sources.plan(name, directory=source, revision=revision)
    print_plan(found, form, path_prefix)
    return found.exit_status


def print_plan(found: "SyncPlan", form: str, prefix: str) -> None:
    """A plan in one of the `FORMATS`."""
    from controller.cli.annotations import github, gitlab  # ruff: ignore[import-outside-top-level]  # start-up time

    match form:
        case "json":
            print_json(_as_json(found))
        case "github":
            for line in github(found.diagnostics, prefix):
                click.echo(line)
            _print_text(found)
        case "gitlab":
            print_json(gitlab(found.diagnostics, prefix))
            _print_diagnostics(found)
        case _:
            _print_text(found)
            _print_diagnostics(found)


def _as_json(found: "SyncPlan") -> dict[str, Any]:
    return {
        "source": found.source,
        "revision": found.revision,
        "changes": [
            {
                "kind": each.kind,
                "name": each.name,
                "path": each.path,
                "owner": each.owner,
                "differences": each.differences,
                "next_fires": [iso(due) for due in each.next_fires],
                "running": each.running,
            }
            for each in found.changes
        ],
        "refusal": found.refusal,
        "diagnostics": [each.as_json() for each in found.diagnostics],
    }


def _print_text(found: "SyncPlan") -> None:
    for each in found.changes:
        for line in _lines(each):
            click.echo(line)
    if not found.changes:
        click.echo("nothing would change")
    if found.refusal is not None:
        click.echo(f"\n{found.refusal}")


def _lines(change: "PlannedChange") -> Iterator[str]:
    from controller.core.difference import sentence  # ruff: ignore[import-outside-top-level]  # start-up time

    what = f"refused (owned by {change.owner})" if change.owner else str(change.kind)
    where = f" ({change.path})" if change.path else ""
    yield f"{ABOUT.get(change.kind, '?')} {change.name}{where}: {what}"
    for each in change.differences:
        yield f"    {sentence(each)}"
    if change.next_fires:
        yield f"    next fires: {', '.join(local(due) for due in change.next_fires)}"
    if change.running:
        many = "executions go on" if change.running > 1 else "execution goes on"
        yield f"    {change.running} {many} with the version it started with"


def _print_diagnostics(found: "SyncPlan") -> None:
    for diagnostic in found.diagnostics:
        note(diagnostic.render())
