"""What is shown of executions: `workflows:status`, `workflows:history`, `logs`."""

from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from controller.cli.executions import execution_option
from controller.cli.output import (
    as_json,
    execution_data,
    local,
    print_fields,
    print_json,
    print_table,
    took,
)
from controller.cli.session import format_option, note, with_app, with_lookup

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from controller.app import App
    from controller.history import ExecutionView, StepView
    from controller.lookup import Lookup
    from controller.store.records import LogRecord

STATUSES = ("pending", "running", "completed", "failed", "cancelled", "paused")

LOG_LINES = 20
"""Lines of the log that `--detailed` shows: the last ones."""

FOLLOW_SECONDS = 0.3
"""Between two looks of `logs --follow`."""


@click.command("workflows:status")
@execution_option
@click.option(
    "--detailed", "-d", is_flag=True, help="With times, inputs, outputs and the end of the log."
)
@format_option("--format", "-f")
@with_app
async def status(app: "App", *, execution: str, detailed: bool, form: str) -> None:
    """Show an execution and its steps."""
    view = await app.service.get_workflow_status(execution)
    lines = await app.lookup.last_logs(view.record.id, LOG_LINES) if detailed else []
    if form == "json":
        print_json(execution_data(view) | ({"logs": lines} if detailed else {}))
        return
    print_fields(_heading(view))
    click.echo()
    _print_steps(view.steps, detailed=detailed)
    if detailed:
        _print_details(view)
    if lines:
        click.echo("\nlog")
    for line in lines:
        _print_line(line)


def _heading(view: "ExecutionView") -> list[tuple[str, str]]:
    record = view.record
    settled, known = view.progress
    found = [
        ("execution", record.id),
        ("workflow", f"{record.workflow_id} {record.workflow_version}"),
        ("status", f"{record.status} ({settled} of {known} steps)"),
        ("trigger", str(record.trigger.get("type", ""))),
        ("created", local(record.created_at)),
        ("started", local(record.started_at)),
        ("completed", local(record.completed_at)),
        ("duration", took(record.duration)),
    ]
    if view.commit is not None:
        commit = view.commit
        found.insert(2, ("commit", f"{commit['id'][:12]} {commit['subject']} ({commit['author']})"))
    if record.attempt_of is not None:
        found.append(("retries", record.attempt_of))
    if view.problem is not None:
        found.append(("problem", view.problem))
    if record.error is not None:
        found.append(("error", f"{record.error.get('type')}: {record.error.get('message')}"))
    return found


def _print_steps(steps: "tuple[StepView, ...]", *, detailed: bool) -> None:
    head = ["STEP", "STATUS", "ATTEMPT", "TOOK", "REASON"]
    rows = [
        [
            "  " * step.depth + step.key,
            step.status,
            str(step.attempt or ""),
            "" if step.started_at is None or step.completed_at is None
            else took(step.completed_at - step.started_at),
            _reason(step),
        ]
        for step in steps
    ]  # fmt: skip
    if detailed:
        head.insert(3, "STARTED")
        for row, step in zip(rows, steps, strict=True):
            row.insert(3, local(step.started_at))
    print_table(head, rows, "no steps")


def _reason(step: "StepView") -> str:
    said = f"{step.error['type']}: {step.error['message']}" if step.error else None
    return ", ".join(part for part in (step.reason, said) if part)


def _print_details(view: "ExecutionView") -> None:
    outputs = [(step.key, as_json(step.outputs)) for step in view.steps if step.outputs]
    given = list(view.record.inputs.items())
    made = list((view.record.outputs or {}).items())
    for title, pairs in (
        ("inputs", [(name, as_json(value)) for name, value in given]),
        ("outputs of steps", outputs),
        ("outputs", [(name, as_json(value)) for name, value in made]),
    ):
        if pairs:
            click.echo(f"\n{title}")
            print_fields((f"  {name}", text) for name, text in pairs)


@click.command("workflows:history")
@click.option("--workflow", "-w", help="Only executions of this workflow.")
@click.option("--status", "-s", type=click.Choice(STATUSES), help="Only those with this status.")
@click.option(
    "--limit",
    "-l",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="The newest so many.",
)
@click.option("--cursor", "-c", help="Go on after a page: what it gave as `next`.")
@format_option("--format", "-f")
@with_lookup
async def history(
    lookup: "Lookup",
    *,
    workflow: str | None,
    status: str | None,
    limit: int,
    cursor: str | None,
    form: str,
) -> None:
    """List executions, newest first, with a summary by status below the first page."""
    page = await lookup.page_executions(workflow, status, limit=limit, cursor=cursor)
    counts = await lookup.count_executions(workflow) if cursor is None else None
    if form == "json":
        print_json({"executions": page.executions, "summary": counts, "next": page.next})
        return
    print_table(
        ("EXECUTION", "WORKFLOW", "STATUS", "CREATED", "TOOK", "TRIGGER"),
        [
            (
                each.id,
                each.workflow_id,
                each.status,
                local(each.created_at),
                took(each.duration),
                str(each.trigger.get("type", "")),
            )
            for each in page.executions
        ],
        "no executions",
    )
    if counts:
        total = ", ".join(f"{counts[name]} {name}" for name in STATUSES if counts.get(name))
        click.echo(f"\n{sum(counts.values())} in all: {total}")
    if page.next is not None:
        note(f"more: --cursor {page.next}")


@click.command("logs")
@click.argument("execution")
@click.option("--follow", "-f", is_flag=True, help="Go on until the execution has ended.")
@click.option("--step", "-s", help="Only this step.")
@format_option("--format")
@with_lookup
async def logs(
    lookup: "Lookup", *, execution: str, follow: bool, step: str | None, form: str
) -> None:
    """Show the log of an execution.

    As JSON it is one list; with --follow, one object a line.
    """
    record = await lookup.get_execution(execution)
    listed: list[LogRecord] = []
    said = False
    async with aclosing(_lines(lookup, record.id, step, follow=follow)) as lines:
        async for line in lines:
            said = True
            if form == "table":
                _print_line(line)
            elif follow:
                click.echo(as_json(line))
            else:
                listed.append(line)
    if form == "json" and not follow:
        print_json(listed)
    if step is not None and not said:
        note(f"no line is of a step {step!r}")


async def _lines(
    lookup: "Lookup", execution: str, step: str | None, *, follow: bool
) -> "AsyncGenerator[LogRecord]":
    """The log from its beginning; with `follow`, until the execution has ended."""
    from controller.clock import SystemClock  # ruff: ignore[import-outside-top-level]  # start-up time

    clock, last = SystemClock(), 0
    while True:
        # looked at before the lines: what is written until an execution ends is seen
        ended = (await lookup.get_execution(execution)).completed_at is not None
        while lines := await lookup.execution_logs(execution, last, step=step):
            for line in lines:
                yield line
            last = lines[-1].id
        if ended or not follow:
            return
        await clock.sleep(FOLLOW_SECONDS)


def _print_line(line: "LogRecord") -> None:
    where = f"{line.step_id} " if line.step_id else ""
    level = "" if line.level == "info" else f"{line.level}: "
    click.echo(f"{local(line.timestamp)} {where}{level}{line.message}")
