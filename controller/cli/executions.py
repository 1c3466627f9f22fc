"""What is done with executions: execute, retry, cancel, pause, resume, signal."""

from typing import TYPE_CHECKING, Any

import click

from controller.cli.output import print_json
from controller.cli.session import format_option, note, with_app
from controller.cli.values import Json, params_option

if TYPE_CHECKING:
    from controller.app import App
    from controller.store.records import ExecutionRecord

execution_option = click.option(
    "--execution",
    "-e",
    required=True,
    help="The execution's id, or its first six characters or more.",
)

async_option = click.option(
    "--async", "-a", "detached", is_flag=True, help="Do not wait for the end."
)


@click.command("workflows:execute")
@click.option("--id", "-i", "workflow", required=True, help="The workflow's name.")
@params_option
@async_option
@format_option("--format", "-f")
@with_app
async def execute(
    app: "App", *, workflow: str, inputs: dict[str, Any] | None, detached: bool, form: str
) -> int:
    """Execute a workflow and wait for it; exit status 1 unless it completes.

    Ctrl-C leaves the execution to the controller that executes it. Where none is at work this
    command executes, and Ctrl-C cancels; pressed again, it kills what runs.
    """
    record = await app.service.execute_workflow(workflow, inputs)
    return await _waited(app, record, form, detached=detached)


@click.command("workflows:retry")
@execution_option
@click.option("--from", "from_step", help="Do this step again, and all that comes after it.")
@async_option
@format_option("--format", "-f")
@with_app
async def retry(
    app: "App", *, execution: str, from_step: str | None, detached: bool, form: str
) -> int:
    """Try an execution that ended again, as a new one that keeps the steps that completed."""
    record = await app.service.retry_execution(execution, from_step=from_step)
    return await _waited(app, record, form, detached=detached)


async def _waited(app: "App", record: "ExecutionRecord", form: str, *, detached: bool) -> int:
    """Print what came of an execution, or only that there is one."""
    from controller.cli.waiting import wait  # ruff: ignore[import-outside-top-level]  # start-up time

    if not detached:
        note(f"execution {record.id}")
        return await wait(app, record.id, form)
    if form == "json":
        print_json({"execution": record})
    else:
        click.echo(record.id)
    await _say_if_nobody_executes(app)
    return 0


async def _say_if_nobody_executes(app: "App") -> None:
    holder = await app.at_work()
    if holder is None or not holder.executes:
        note("no controller is at work; it goes on when `windlass run` starts")


@click.command("workflows:cancel")
@execution_option
@click.option("--force", "-f", is_flag=True, help="Kill what runs, and do not wait for it.")
@with_app
async def cancel(app: "App", *, execution: str, force: bool) -> None:
    """Cancel an execution: what runs is asked to stop."""
    record = await app.service.get_execution(execution)
    await app.service.cancel_execution(record.id, force=force)
    if await app.at_work() is None:
        await app.attend(record.id, until=("completed", "failed", "cancelled"))
    record = await app.service.get_execution(record.id)
    if record.status == "cancelled":
        click.echo(f"cancelled {record.id}")
        return
    click.echo(f"cancelling {record.id}")
    await _say_if_nobody_executes(app)


@click.command("workflows:pause")
@execution_option
@with_app
async def pause(app: "App", *, execution: str) -> None:
    """Start no new step of an execution until it is resumed; what runs finishes."""
    record = await app.service.get_execution(execution)
    await app.service.pause_execution(record.id)
    click.echo(f"pausing {record.id}")
    await _say_if_nobody_executes(app)


@click.command("workflows:resume")
@execution_option
@with_app
async def resume(app: "App", *, execution: str) -> None:
    """Go on with a paused execution."""
    record = await app.service.get_execution(execution)
    await app.service.resume_execution(record.id)
    click.echo(f"resuming {record.id}")
    await _say_if_nobody_executes(app)


@click.command("workflows:signal")
@execution_option
@click.option("--name", "-n", required=True, help="The signal's name.")
@click.option(
    "--payload", "-p", type=Json(), metavar="JSON", help="Any JSON, @FILE, or - for stdin."
)
@with_app
async def signal(app: "App", *, execution: str, name: str, payload: object) -> None:
    """Send a signal: for `wait_for_signal`, and for `approval` with {"approved": true}."""
    record = await app.service.get_execution(execution)
    await app.service.send_signal(record.id, name, payload)
    click.echo(f"sent {name} to {record.id}")
    await _say_if_nobody_executes(app)
