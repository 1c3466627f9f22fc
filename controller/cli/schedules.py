"""`workflows:schedule`, `schedule:list`, `schedule:cancel`."""

from typing import TYPE_CHECKING, Any

import click

from controller.cli.output import local, print_json, print_table
from controller.cli.session import format_option, note, with_app
from controller.cli.values import params_option

if TYPE_CHECKING:
    from controller.app import App


@click.command("workflows:schedule")
@click.option("--id", "-i", "workflow", required=True, help="The workflow's name.")
@click.option("--cron", "-c", help="Again and again: five fields, six with seconds first, @daily.")
@click.option("--at", "-a", help="Once, at an ISO 8601 time.")
@click.option("--timezone", "-z", default="UTC", show_default=True, help="IANA time zone.")
@params_option
@format_option("--format", "-f")
@with_app
async def schedule(
    app: "App", *, workflow: str, inputs: dict[str, Any] | None, form: str, **when: str | None
) -> None:
    """Schedule a workflow, once (--at) or again and again (--cron)."""
    cron, at, timezone = when["cron"], when["at"], when["timezone"] or "UTC"
    if (cron is None) == (at is None):
        raise click.UsageError("Give one of --cron and --at.", click.get_current_context())
    record = await app.service.schedule_workflow(
        workflow, cron=cron, at=at, timezone=timezone, inputs=inputs
    )
    if record.next_run_at is None:
        note(f"{at or cron} has passed: it will not fire")
    if form == "json":
        print_json(record)
    elif record.next_run_at is None:
        click.echo(f"schedule {record.id}: {workflow}, never")
    else:
        click.echo(f"schedule {record.id}: {workflow}, next at {local(record.next_run_at)}")


@click.command("schedule:list")
@click.option("--workflow", "-w", help="Only schedules of this workflow.")
@format_option("--format", "-f")
@with_app
async def list_schedules(app: "App", *, workflow: str | None, form: str) -> None:
    """List schedules that fire."""
    found = await app.service.list_schedules(workflow)
    if form == "json":
        print_json(found)
        return
    print_table(
        ("SCHEDULE", "WORKFLOW", "WHEN", "TIMEZONE", "NEXT", "LAST", "NOTE"),
        [
            (
                each.id,
                each.workflow_id,
                each.cron_expression or local(each.at),
                each.timezone,
                local(each.next_run_at),
                local(each.last_run_at),
                each.reason or "",
            )
            for each in found
        ],
        "no schedules",
    )


@click.command("schedule:cancel")
@click.argument("schedule_id", metavar="SCHEDULE")
@with_app
async def cancel(app: "App", *, schedule_id: str) -> None:
    """Stop a schedule that `workflows:schedule` made."""
    await app.service.cancel_scheduled_workflow(schedule_id)
    click.echo(f"cancelled {schedule_id}")
