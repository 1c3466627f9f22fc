"""`workflows:schedule`, and the `schedule:` commands."""

from typing import TYPE_CHECKING, Any

import click

from controller.cli.output import local, print_json, print_table
from controller.cli.session import format_option, note, with_app, with_lookup
from controller.cli.values import Moment, Reading, params_option
from controller.core.plain import iso

if TYPE_CHECKING:
    from controller.app import App
    from controller.lookup import Lookup


@click.command("workflows:schedule")
@click.option("--id", "-i", "workflow", required=True, help="The workflow's name.")
@click.option("--cron", "-c", help="Again and again: five fields, six with seconds first, @daily.")
@click.option(
    "--at",
    "-a",
    type=Reading(),
    help="Once, at an ISO 8601 time; --timezone's where it has no offset.",
)
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
@click.option("--all", "-a", "stopped", is_flag=True, help="Those that were stopped or ended, too.")
@format_option("--format", "-f")
@with_lookup
async def list_schedules(
    lookup: "Lookup", *, workflow: str | None, stopped: bool, form: str
) -> None:
    """List schedules that fire or are paused."""
    found = await lookup.list_schedules(workflow, stopped=stopped)
    if form == "json":
        print_json(found)
        return
    print_table(
        ("SCHEDULE", "WORKFLOW", "WHEN", "TIMEZONE", "OVERLAP", "NEXT", "LAST", "REASON"),
        [
            (
                each.id,
                each.workflow_id,
                each.cron_expression or local(each.at),
                each.timezone,
                str(each.policy.get("overlap") or ""),
                local(each.next_run_at),
                local(each.last_run_at),
                each.reason or "",
            )
            for each in found
        ],
        "no schedules",
    )


@click.command("schedule:next")
@click.option("--workflow", "-w", help="All active schedules of this workflow, together.")
@click.option("--cron", "-c", help="An expression that need not be recorded anywhere.")
@click.option("--timezone", "-z", help="IANA time zone of --cron; UTC by default.")
@click.option(
    "--after", type=Moment(), help="ISO 8601, in UTC unless it says more; now by default."
)
@click.option(
    "--count",
    "-n",
    type=click.IntRange(1, 1_000),
    default=5,
    show_default=True,
    help="How many due times.",
)
@format_option("--format", "-f")
@with_app
async def upcoming(  # ruff: ignore[too-many-arguments]  # its options
    app: "App",
    *,
    workflow: str | None,
    cron: str | None,
    timezone: str | None,
    after: int | None,
    count: int,
    form: str,
) -> None:
    """Show when a schedule fires next: nominal due times, to which jitter is added."""
    context = click.get_current_context()
    if cron is not None and workflow is None:
        zone = timezone or "UTC"
        found = app.service.next_fires_of(cron, timezone=zone, after=after, count=count)
    elif workflow is not None and cron is None:
        if timezone is not None:
            raise click.UsageError("--timezone goes with --cron.", context)
        found = await app.service.next_fires(workflow, after=after, count=count)
    else:
        raise click.UsageError("Give one of --workflow and --cron.", context)
    if form == "json":
        print_json(found)
        return
    print_table(
        ("DUE", "TIMEZONE", "UTC", "WHEN", "SCHEDULE"),
        [
            (
                each.local_time,
                each.timezone,
                iso(each.due_at),
                each.cron_expression or "once",
                each.schedule_id or "",
            )
            for each in found
        ],
        "no due times",
    )


@click.command("schedule:backfill")
@click.argument("schedule_id", metavar="[SCHEDULE]", required=False)
@click.option("--workflow", "-w", help="All active schedules of this workflow.")
@click.option("--from", "since", type=Moment(), required=True, help="The first moment, ISO 8601.")
@click.option(
    "--to", "until", type=Moment(), required=True, help="The first moment after it; at most now."
)
@click.option(
    "--limit",
    "-l",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="With more due times than this, nothing is created.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be created.")
@format_option("--format", "-f")
@with_app
async def backfill(app: "App", *, form: str, **asked: Any) -> None:  # ruff: ignore[any-type]  # its options
    """Execute a workflow for the due times in a range that did not fire."""
    from controller.backfill import Backfill  # ruff: ignore[import-outside-top-level]  # start-up time

    schedule_id = asked.pop("schedule_id")
    if (schedule_id is None) == (asked["workflow"] is None):
        context = click.get_current_context()
        raise click.UsageError("Give one of SCHEDULE and --workflow.", context)
    done = await app.service.backfill(Backfill(schedule=schedule_id, **asked))
    if form == "json":
        print_json(done)
        return
    print_table(
        ("DUE", "SCHEDULE", "RESULT", "EXECUTION"),
        [
            (iso(each.due_at), each.schedule_id, each.result, each.execution_id or "")
            for each in done.fires
        ],
        "no due times",
    )
    made = "to create" if done.dry_run else "created"
    count = done.count("missing" if done.dry_run else "created")
    click.echo(f"\n{count} {made}, {done.count('exists')} already there")


@click.command("schedule:cancel")
@click.argument("schedule_id", metavar="SCHEDULE")
@with_app
async def cancel(app: "App", *, schedule_id: str) -> None:
    """Stop a schedule that `workflows:schedule` made."""
    await app.service.cancel_scheduled_workflow(schedule_id)
    click.echo(f"cancelled {schedule_id}")


@click.command("schedule:pause")
@click.argument("schedule_id", metavar="SCHEDULE")
@with_app
async def pause(app: "App", *, schedule_id: str) -> None:
    """Let a schedule fire no more until it is resumed; what it started goes on."""
    await app.service.pause_schedule(schedule_id)
    click.echo(f"paused {schedule_id}")


@click.command("schedule:resume")
@click.argument("schedule_id", metavar="SCHEDULE")
@with_app
async def resume(app: "App", *, schedule_id: str) -> None:
    """Let a paused schedule fire again; nothing is made up for the pause."""
    record = await app.service.resume_schedule(schedule_id)
    following = record.next_run_at
    click.echo(
        f"resumed {schedule_id}, " + (f"next at {local(following)}" if following else "never")
    )
