"""The commands about schedules: what they print, and what they leave recorded."""

from controller.cli import ending
from tests.cli.place import GREETING, Place

OWN = """\
name: report
steps:
  - {id: a, type: action, action: set}
triggers:
  - {type: scheduled, config: {cron: '0 9 * * *', timezone: Europe/Berlin, overlap: allow}}
"""
BETWEEN = ("--from", "2025-07-01", "--to", "2025-07-04")


def test_the_next_due_times_of_an_expression_need_no_workflow(here: Place) -> None:
    """Local times on the schedule's clock beside UTC, across a clock change."""
    asked = ("schedule:next", "-c", "30 9 * * *", "-z", "Europe/Berlin", "-n", "2")
    after = ("--after", "2026-03-28T00:00:00+01:00")
    assert here.fine(*asked, *after, "-f", "json").data == [
        {
            "schedule_id": None,
            "workflow_id": None,
            "cron_expression": "30 9 * * *",
            "timezone": "Europe/Berlin",
            "due_at": due,
            "local_time": local_time,
        }
        for due, local_time in (
            ("2026-03-28T08:30:00.000Z", "2026-03-28T09:30:00+01:00"),
            ("2026-03-29T07:30:00.000Z", "2026-03-29T09:30:00+02:00"),
        )
    ]
    first = here.fine(*asked, *after).out.splitlines()[1].split("  ")
    assert first[:3] == ["2026-03-28T09:30:00+01:00", "Europe/Berlin", "2026-03-28T08:30:00.000Z"]


def test_the_next_due_times_of_a_workflow_are_those_of_all_its_schedules(here: Place) -> None:
    """In the order of time, each with its schedule; a paused one has none."""
    here.create(OWN)
    here.fine("workflows:schedule", "--id", "report", "--cron", "0 8 * * *")
    asked = ("schedule:next", "-w", "report", "--after", "2030-01-10T00:00:00Z", "-n", "3")
    found = here.fine(*asked, "-f", "json").data
    assert [each["due_at"][:16] for each in found] == [
        "2030-01-10T08:00",
        "2030-01-10T08:00",
        "2030-01-11T08:00",
    ]
    [other] = {each["schedule_id"] for each in found} - {found[0]["schedule_id"]}
    here.fine("schedule:pause", other)
    found = here.fine(*asked, "-f", "json").data
    assert [each["due_at"][8:10] for each in found] == ["10", "11", "12"]
    assert len({each["schedule_id"] for each in found}) == 1


def test_a_range_is_made_up_once(here: Place) -> None:
    """First shown, then created, then there already; a limit that is too low creates nothing."""
    here.create(OWN)
    asked = ("schedule:backfill", "-w", "report", *BETWEEN)
    said = here(*asked, "--limit", "2")
    assert said.status == ending.REFUSED
    assert "3 due times are in that range, more than the limit of 2" in said.err
    assert "--limit 3" in said.err
    assert here.fine(*asked, "--dry-run").out.endswith("\n3 to create, 0 already there\n")
    assert here.fine("workflows:history").out == "no executions\n"
    done = here.fine(*asked, "-f", "json").data
    assert (done["since_at"], done["dry_run"]) == ("2025-07-01T00:00:00.000Z", False)
    assert [(each["due_at"], each["result"]) for each in done["fires"]] == [
        (f"2025-07-0{day}T07:00:00.000Z", "created") for day in (1, 2, 3)
    ]
    assert here.fine(*asked).out.endswith("\n0 created, 3 already there\n")
    trigger = here.fine("workflows:history", "-f", "json").data["executions"][-1]["trigger"]
    assert (trigger["type"], trigger["backfill"]) == ("scheduled", True)
    assert trigger["due_at"].startswith("2025-07-0")


def test_a_schedule_is_paused_and_resumed(here: Place) -> None:
    """A paused one is listed, with the reason and without a next time; a stopped one with --all."""
    here.create(GREETING)
    here.fine("workflows:schedule", "--id", "greeting", "--cron", "@daily")
    [record] = here.fine("schedule:list", "-f", "json").data
    assert here.fine("schedule:pause", record["id"]).out == f"paused {record['id']}\n"
    assert here("schedule:pause", record["id"]).status == ending.REFUSED
    [paused] = here.fine("schedule:list", "-f", "json").data
    assert (paused["reason"], paused["next_run_at"]) == ("paused", None)
    assert "skip" in here.fine("schedule:list").out.splitlines()[1]
    assert "next at" in here.fine("schedule:resume", record["id"]).out
    assert here("schedule:resume", record["id"]).status == ending.REFUSED
    here.fine("schedule:cancel", record["id"])
    assert here.fine("schedule:list").out == "no schedules\n"
    assert "cancelled" in here.fine("schedule:list", "--all").out
