"""Who is at work, what is on its way, what cannot be compared: what is found then, what is not."""

import asyncio
import json
import time
from functools import partial

import pytest

from controller.app import open_app, run_main
from controller.core.plan import digest_of
from controller.core.problem import Refused
from controller.doctor.examine import Examination, Manner
from controller.doctor.executions import Around
from controller.store.doctor import cases
from controller.store.records import NEVER, Batch, ExecutionRecord, Fenced
from controller.store.retention import remove
from controller.store.store import Store
from controller.store.values import decode
from tests.doctor.place import Worked
from tests.doctor.worked import go_on
from tests.eventually import wait_until
from tests.growth.grown import until, working
from tests.store.sample import event

OWNED = "UPDATE workflow_executions SET owner = :by, lease_until = :until, wake_at = NULL"
LONG_AGO = 1_700_000_000_000 // 3_600_000 * 3_600_000
"""A full hour of 2023, epoch milliseconds."""


def _kinds(worked: Worked) -> list[str]:
    return [each.kind for each in worked.found()]


# -- controllers ------------------------------------------------------------------------------


def test_what_a_living_controller_has_is_its_own(worked: Worked) -> None:
    """However old its lease is: it may be just about to renew it."""
    worked.sql(f"{OWNED} WHERE id = :resumed", by="me", until=1)
    with worked.controller("me"):
        assert worked.found() == []
    assert _kinds(worked) == ["execution-left-owned"]


def test_what_a_controller_at_work_should_have_taken(worked: Worked) -> None:
    """A lease that ran out a minute ago is another matter than one that has just run out."""
    worked.sql(f"{OWNED} WHERE id = :resumed", by="gone", until=1)
    with worked.controller("me"):
        assert _kinds(worked) == ["execution-unclaimed"]
        worked.sql(
            "UPDATE workflow_executions SET lease_until = :now WHERE id = :resumed", now=_now()
        )
        assert worked.found() == []


def test_what_a_controller_at_work_should_have_fired(worked: Worked) -> None:
    """Without one, it is only late: what is due is made up by the next."""
    change = "UPDATE workflow_schedules SET next_run_at = :due WHERE cron_expression = '0 * * * *'"
    worked.sql(change, due=LONG_AGO)
    assert worked.found() == []
    with worked.controller("me"):
        assert _kinds(worked) == ["schedule-overdue"]


def test_a_lease_that_has_not_ended_is_somebodys(worked: Worked) -> None:
    """A controller's, of a command that executes, or of what has not been kept for an hour."""
    hour_ago = _now() - 3_600_000
    for name, until_ in (("controller/x", NEVER), ("source/x", NEVER), ("source/y", hour_ago)):
        worked.sql("INSERT INTO leases VALUES (:name, 'x', :until)", name=name, until=until_)
    if worked.path is None:  # on SQLite the lock says who lives
        worked.sql(f"{OWNED} WHERE id = :resumed", by="a command", until=NEVER)
    assert worked.found() == []


def test_nothing_is_mended_beside_a_controller(worked: Worked) -> None:
    """On PostgreSQL each repair looks for one again; on SQLite the command has taken the lock."""
    if worked.path is not None:
        pytest.skip("tests/doctor/test_command.py")
    worked.sql("UPDATE workflow_executions SET status = 'failed' WHERE id = :completed")
    with worked.controller("me"), pytest.raises(Refused, match="me is at work"):
        worked.examine(repair=True)
    assert _kinds(worked) == ["execution-unlike-events"]


async def test_who_was_only_asleep_is_fenced(worked: Worked) -> None:
    """What an owner that was taken for gone still wants to record is refused."""
    worked.sql(f"{OWNED} WHERE id = :resumed", by="asleep", until=1)
    [(last,)] = worked.sql(
        "SELECT max(seq) FROM execution_checkpoints WHERE execution_id = :resumed"
    )
    await asyncio.to_thread(partial(worked.examine, repair=True))
    async with Store.open(worked.settings.url, monotonic=time.monotonic) as store:
        with pytest.raises(Fenced):
            await store.append(Batch(worked.ids["resumed"], [event(last + 1)], owner="asleep"))


async def test_beside_a_controller_at_work_nothing_is_found(worked: Worked) -> None:
    """Whenever it looks, executions are as their events say, and what goes on is nobody's fault."""
    async with open_app(worked.settings) as app, working(app):
        made: list[str] = []
        for _ in range(10):
            for workflow in ("plain", "everything", "failing", "parent"):
                record = await app.service.execute_workflow(workflow)
                made.append(record.id)
            with worked.controller(app.owner):
                assert await asyncio.to_thread(worked.found) == []
        for each in made:
            await until(app, each, _ended_or_waits)


def _ended_or_waits(record: ExecutionRecord) -> bool:
    return record.completed_at is not None or record.workflow_id == "parent"


# -- what is not compared ---------------------------------------------------------------------


def test_what_ended_for_its_definition_is_not_compared(worked: Worked) -> None:
    """It was ended by the engine, whatever its events say; a step may fail with that type too."""
    ended = "status = 'failed', completed_at = started_at, duration = 0, wake_at = NULL"
    change = f"UPDATE workflow_executions SET {ended}, error = :error WHERE id = :waiting"  # ruff: ignore[hardcoded-sql-expression]  # a test's own
    error = {"step": None, "type": "definition", "message": "x"}
    worked.sql(change, error=json.dumps(error))
    assert worked.found() == []
    worked.sql(change, error=json.dumps(error | {"step": "gate"}))
    assert _kinds(worked) == ["execution-gap"]


def test_what_retention_is_removing_is_on_its_way(worked: Worked) -> None:
    """A large tree goes in parts, in transactions of their own; what is gone besides is missed."""
    worked.sql("DELETE FROM execution_checkpoints WHERE execution_id = :everything AND seq = 0")
    assert _kinds(worked) == ["execution-gap"]
    parts = 0
    while worked.database.write(remove, [worked.ids["everything"]], 3):
        assert worked.found() == []
        parts += 1
    assert parts > 3
    assert not worked.sql("SELECT id FROM workflow_executions WHERE id = :everything")


def test_what_is_removed_while_it_is_judged_is_no_fault(worked: Worked) -> None:
    """It was read, with a fault, and is looked up again: nothing of its tree is there."""
    which = worked.ids["everything"]
    [case] = worked.database.read(cases, [which])
    around = Around(_now(), shared=False, at_work=True)
    examination = Examination(worked.database, {}, around, Manner(full=True, repair=False))
    assert not examination._is_going(case)
    while worked.database.write(remove, [which]):
        pass
    assert examination._is_going(case)


# -- definitions ------------------------------------------------------------------------------


def test_a_definition_is_what_its_digest_says(worked: Worked) -> None:
    """Otherwise it is named, and no execution is judged by it."""
    change = "UPDATE workflow_versions SET content = replace(content, 'hello', 'bye')"
    worked.sql(f"{change} WHERE workflow_id = 'plain'")
    [(digest,)] = worked.sql("SELECT digest FROM workflows WHERE id = 'plain'")
    for full in (False, True):
        found = worked.found(full=full)
        assert [(each.kind, each.subject) for each in found] == [("version-content", digest)]
    worked.sql("UPDATE workflow_versions SET content = '{' WHERE workflow_id = 'plain'")
    assert _kinds(worked) == ["version-content"]


def test_a_definition_that_is_not_there_is_missed_by_all(worked: Worked) -> None:
    """By the workflow, and by each execution that is pinned to it."""
    worked.sql("DELETE FROM workflow_versions WHERE workflow_id = 'failing'")
    found = worked.found()
    assert {each.kind for each in found} == {"version-missing"}
    wanted = {"failing", worked.ids["failed"], worked.ids["retrying"]}
    assert {each.subject for each in found} == wanted


def test_a_definition_that_cannot_be_used_is_named(worked: Worked) -> None:
    """Its content is what its digest says, and is no workflow that we know."""
    [(text,)] = worked.sql("SELECT content FROM workflow_versions WHERE workflow_id = 'plain'")
    content = decode(text)
    content["workflow"]["steps"] = "none"
    new = digest_of(content)
    worked.sql(
        "UPDATE workflow_versions SET content = :content, digest = :new"
        " WHERE workflow_id = 'plain'",
        "UPDATE workflow_executions SET digest = :new WHERE workflow_id = 'plain'",
        "UPDATE workflows SET digest = :new WHERE id = 'plain'",
        content=json.dumps(content),
        new=new,
    )
    assert [(each.kind, each.subject) for each in worked.found()] == [("version-unusable", new)]


# -- subflows ---------------------------------------------------------------------------------


def test_a_parent_is_told_again_of_a_child_that_has_ended(worked: Worked) -> None:
    """The signal is lost, or counts as taken though no event says so."""

    async def cancel() -> None:
        async with open_app(worked.settings) as app:
            await app.service.cancel_execution(worked.ids["child of queueing"])

    run_main(cancel())
    assert worked.found() == []
    for lost in ("DELETE FROM signals", "UPDATE signals SET consumed_at = 1"):
        worked.sql(f"{lost} WHERE execution_id = :queueing AND consumed_at IS NULL")
        [finding] = worked.found()
        assert (finding.kind, finding.subject) == ("execution-unanswered", worked.ids["queueing"])
        worked.examine(repair=True)
        assert worked.found() == []
    ended = run_main(go_on(worked.settings, worked.ids))
    assert ended[worked.ids["queueing"]] == "failed"
    assert worked.found() == []


def test_a_child_that_nobody_began_is_begun(worked: Worked, ended: dict[str, str]) -> None:
    """The controller ended after its parent had gone to sleep, and before it was created."""
    worked.sql(
        "DELETE FROM execution_checkpoints WHERE execution_id = :child_of_parent",
        "DELETE FROM workflow_logs WHERE execution_id = :child_of_parent",
        "DELETE FROM workflow_executions WHERE id = :child_of_parent",
    )
    with worked.controller("me"):
        assert worked.found() == []  # it may be about to
    assert _kinds(worked) == ["execution-unanswered"]
    worked.examine(repair=True)
    assert worked.found() == []

    async def begin() -> None:
        async with open_app(worked.settings) as app, working(app):
            await until(app, worked.ids["parent"], lambda record: record.wake_at is None)
            await asyncio.to_thread(_has_child, worked)

    run_main(begin())
    assert run_main(go_on(worked.settings, worked.ids)) == ended


async def test_a_parent_hears_of_a_child_that_cannot_go_on(worked: Worked) -> None:
    """Its definition cannot be used any more: it fails, and so does the step that waits for it."""
    content = json.dumps({"workflow": {}, "actions": {}, "subflows": {}})
    change = "UPDATE workflow_versions SET content = :content WHERE workflow_id = 'child'"
    worked.sql(change, content=content)
    async with open_app(worked.settings) as app, working(app):
        await app.service.cancel_execution(worked.ids["child of parent"])
        for name in ("child of parent", "parent"):
            await until(app, worked.ids[name], lambda record: record.status == "failed")
    assert {each.kind for each in await asyncio.to_thread(worked.found)} == {"version-content"}


def _has_child(worked: Worked) -> None:
    query = "SELECT id FROM workflow_executions WHERE id = :child_of_parent"
    wait_until(lambda: worked.sql(query), "the child")


def _now() -> int:
    return time.time_ns() // 1_000_000
