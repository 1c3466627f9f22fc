"""`workflows:execute`, `:status`, `:history`, `:cancel`, `:pause`, `:resume`, `:retry`, `:signal`, `logs`."""

import asyncio
import contextlib
import signal as signals
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from controller.cli.output import local, print_json, print_table, took
from controller.cli.progress import Progress
from controller.cli.session import FAILED, as_format, complain, note, params, with_app

if TYPE_CHECKING:
    from controller.app import App
    from controller.history import ExecutionView
    from controller.store.records import LogRecord

STATUSES = click.Choice(["pending", "running", "completed", "failed", "cancelled", "paused"])
INTERRUPTED = 130
LOG_LINES = 20
FOLLOW_SECONDS = 0.3

execution_option = click.option(
    "--execution",
    "-e",
    required=True,
    help="The execution's id, or its first six characters or more.",
)


@click.command("workflows:execute")
@click.option("--id", "-i", "workflow", required=True, help="The workflow's name.")
@click.option("--params", "-p", "given", help="Inputs: a JSON object, @FILE, or - for stdin.")
@click.option("--async", "-a", "detached", is_flag=True, help="Do not wait for the end.")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How to print.",
)
@with_app
async def execute(app: "App", workflow: str, given: str | None, detached: bool, form: str) -> int:  # noqa: FBT001  # a flag
    """Execute a workflow and wait for it; exit status 1 unless it completes."""
    record = await app.service.execute_workflow(workflow, params(given))
    if detached:
        if form == "json":
            print_json(record)
        else:
            click.echo(record.id)
            _say_if_nobody_executes(app)
        return 0
    note(f"execution {record.id}")
    return await _wait(app, record.id, form)


async def _wait(app: "App", execution: str, form: str) -> int:
    """Follow an execution to its end, and print what came of it."""
    async with _on_interrupt(app, execution) as interrupted:
        waiting = asyncio.ensure_future(app.attend(execution, Progress()))
        leaving = asyncio.ensure_future(interrupted.wait())
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not waiting.done():
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            note(f"it goes on; see: windlass workflows:status --execution {execution}")
            return INTERRUPTED
        view = waiting.result()
    return _finished(view, form)


@contextlib.asynccontextmanager
async def _on_interrupt(app: "App", execution: str) -> AsyncIterator[asyncio.Event]:
    """Ctrl-C leaves an execution that a daemon executes, and cancels one that this process does.

    Pressed again, it does so at once.
    """
    leave = asyncio.Event()
    asked: list[asyncio.Task[None]] = []

    def pressed() -> None:
        lock = app.lock("execute")
        holder = lock.holder() if lock is not None else None
        if holder is not None and holder.role == "controller":
            leave.set()
            return
        force = bool(asked)
        note("cancelling" if not force else "cancelling at once")
        work = app.service.cancel_execution(execution, force=force)
        asked.append(asyncio.ensure_future(work))

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signals.SIGINT, pressed)
    try:
        yield leave
    finally:
        loop.remove_signal_handler(signals.SIGINT)
        await asyncio.gather(*asked, return_exceptions=True)


def _finished(view: "ExecutionView", form: str) -> int:
    record = view.record
    if form == "json":
        print_json({"execution": record, "steps": view.steps})
    elif record.status == "completed":
        click.echo(f"completed in {took(record.duration)}")
        _print_outputs(record.outputs)
    elif record.status == "paused":
        note(f"paused; go on with: windlass workflows:resume --execution {record.id}")
    else:
        error = record.error or {}
        message = f": {error.get('type')}: {error.get('message')}" if error else ""
        where = f" at step {error['step']}" if error.get("step") else ""
        return complain(f"execution {record.id} {record.status}{where}{message}", None, FAILED)
    return 0 if record.status == "completed" else FAILED


def _print_outputs(outputs: dict[str, object] | None) -> None:
    import json  # noqa: PLC0415  # start-up time

    for name, value in (outputs or {}).items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{name}: {shown}")


def _say_if_nobody_executes(app: "App") -> None:
    lock = app.lock("execute")
    if lock is not None and lock.holder() is None:
        note("no controller is at work; it begins when `windlass run` does")


@click.command("workflows:status")
@execution_option
@click.option("--detailed", "-d", is_flag=True, help="With inputs, outputs and the end of the log.")
@as_format
@with_app
async def status(app: "App", execution: str, detailed: bool, form: str) -> None:  # noqa: FBT001  # a flag
    """Show an execution and its steps."""
    view = await app.service.get_workflow_status(execution)
    lines = await app.service.execution_logs(view.record.id) if detailed else []
    if form == "json":
        shown: dict[str, object] = {"execution": view.record, "steps": view.steps}
        print_json(shown | ({"logs": lines} if detailed else {}))
        return
    record = view.record
    settled, known = view.progress
    click.echo(f"execution  {record.id}")
    click.echo(f"workflow   {record.workflow_id} {record.workflow_version}")
    click.echo(f"status     {record.status} ({settled} of {known} steps)")
    click.echo(f"started    {local(record.started_at) or '-'}")
    click.echo(f"duration   {took(record.duration) or '-'}")
    if record.error:
        click.echo(f"error      {record.error.get('type')}: {record.error.get('message')}")
    click.echo()
    print_table(
        ("STEP", "STATUS", "ATTEMPT", "TOOK", "REASON"),
        [
            (
                "  " * step.depth + step.key,
                step.status,
                str(step.attempt or ""),
                took(step.completed_at - step.started_at)
                if step.completed_at and step.started_at
                else "",
                _reason(step.reason, step.error),
            )
            for step in view.steps
        ],
        "no steps",
    )
    if detailed:
        _print_details(view, lines)


def _reason(reason: str | None, error: object) -> str:
    said = f"{error['type']}: {error['message']}" if isinstance(error, dict) else ""
    return " ".join(part for part in (reason, said) if part)


def _print_details(view: "ExecutionView", lines: "list[LogRecord]") -> None:
    import json  # noqa: PLC0415  # start-up time

    for title, value in (("inputs", view.record.inputs), ("outputs", view.record.outputs)):
        click.echo(f"\n{title}: {json.dumps(value, ensure_ascii=False)}")
    for step in view.steps:
        if step.outputs:
            click.echo(f"{step.key}: {json.dumps(step.outputs, ensure_ascii=False)}")
    if lines:
        click.echo("\nlog:")
    for line in lines[-LOG_LINES:]:
        _print_line(line)


@click.command("workflows:history")
@click.option("--workflow", "-w", help="Only executions of this workflow.")
@click.option("--status", "-s", type=STATUSES, help="Only those with this status.")
@click.option(
    "--limit",
    "-l",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="The newest so many.",
)
@as_format
@with_app
async def history(
    app: "App", workflow: str | None, status: str | None, limit: int, form: str
) -> None:
    """List executions, newest first, with a summary by status."""
    found = await app.service.list_executions(workflow, status, limit=limit)
    counts = await app.service.count_executions(workflow)
    if form == "json":
        print_json({"executions": found, "summary": counts})
        return
    print_table(
        ("EXECUTION", "WORKFLOW", "STATUS", "CREATED", "TOOK", "TRIGGER"),
        [
            (each.id, each.workflow_id, each.status, local(each.created_at), took(each.duration),
             str(each.trigger.get("type", "")))
            for each in found
        ],
        "no executions",
    )  # fmt: skip
    if counts:
        click.echo()
        click.echo("  ".join(f"{name}: {count}" for name, count in sorted(counts.items())))


@click.command("workflows:cancel")
@execution_option
@click.option("--force", "-f", is_flag=True, help="Kill what runs, and do not wait for it.")
@with_app
async def cancel(app: "App", execution: str, force: bool) -> int:  # noqa: FBT001  # a flag
    """Cancel an execution: what runs is asked to stop."""
    record = await app.service.get_execution(execution)
    await app.service.cancel_execution(record.id, force=force)
    lock = app.lock("execute")
    if lock is not None and lock.holder() is None:
        await app.attend(record.id)
    click.echo(f"cancelling {record.id}")
    return 0


@click.command("workflows:pause")
@execution_option
@with_app
async def pause(app: "App", execution: str) -> None:
    """Start no new step of an execution until it is resumed; what runs finishes."""
    record = await app.service.get_execution(execution)
    await app.service.pause_execution(record.id)
    click.echo(f"pausing {record.id}")
    _say_if_nobody_executes(app)


@click.command("workflows:resume")
@execution_option
@with_app
async def resume(app: "App", execution: str) -> None:
    """Go on with a paused execution."""
    record = await app.service.get_execution(execution)
    await app.service.resume_execution(record.id)
    click.echo(f"resuming {record.id}")
    _say_if_nobody_executes(app)


@click.command("workflows:retry")
@execution_option
@click.option("--from", "from_step", help="Do this step again, and all that comes after it.")
@click.option("--async", "-a", "detached", is_flag=True, help="Do not wait for the end.")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How to print.",
)
@with_app
async def retry(
    app: "App", execution: str, from_step: str | None, detached: bool, form: str
) -> int:  # noqa: FBT001  # a flag
    """Try a finished execution again, as a new one that keeps the steps that completed."""
    record = await app.service.retry_execution(execution, from_step=from_step)
    if detached:
        click.echo(record.id)
        return 0
    note(f"execution {record.id}")
    return await _wait(app, record.id, form)


@click.command("workflows:signal")
@execution_option
@click.option("--name", "-n", required=True, help="The signal's name.")
@click.option("--payload", "-p", help="A JSON object, @FILE, or - for stdin.")
@with_app
async def signal(app: "App", execution: str, name: str, payload: str | None) -> None:
    """Send a signal: for `wait_for_signal`, and for `approval` with {"approved": true}."""
    await app.service.send_signal(execution, name, params(payload))
    click.echo(f"sent {name}")


@click.command("logs")
@click.argument("execution")
@click.option("--follow", is_flag=True, help="Go on until the execution has ended.")
@click.option("--step", "-s", help="Only this step.")
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="json: one object a line.",
)
@with_app
async def logs(app: "App", execution: str, follow: bool, step: str | None, form: str) -> None:  # noqa: FBT001  # a flag
    """Show the log of an execution."""
    record = await app.service.get_execution(execution)
    last = 0
    while True:
        ended = record.status in {"completed", "failed", "cancelled"}
        while lines := await app.service.execution_logs(record.id, last, step=step):
            for line in lines:
                _print_line(line) if form == "table" else _print_object(line)
            last = lines[-1].id
        if not follow or ended:
            return
        await app.clock.sleep(FOLLOW_SECONDS)
        record = await app.service.get_execution(record.id)


def _print_line(line: "LogRecord") -> None:
    where = f"{line.step_id} " if line.step_id else ""
    level = "" if line.level == "info" else f"{line.level}: "
    click.echo(f"{local(line.timestamp)} {where}{level}{line.message}")


def _print_object(line: "LogRecord") -> None:
    import json  # noqa: PLC0415  # start-up time

    from controller.cli.output import plain  # noqa: PLC0415  # beside json

    click.echo(json.dumps(plain(line), ensure_ascii=False))
