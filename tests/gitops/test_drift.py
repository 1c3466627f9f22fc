"""What somebody changed in the database, behind the source's back, is put back as it says."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from controller.core.drift import Fate
from controller.store.tables import Transaction
from tests.fake_clock import FakeClock
from tests.postgres import Postgres
from tests.service.place import Place, flow, opened

WHOLE = r"""
name: whole
description: "a \"quoted\" line, ünïcödé and \U0001F642"
version: 2.1.0
labels: {team: "a/b", other: "1"}
metadata: {numbers: [1.0, 1e300, -0.0, 1234567890123456789], text: "\u0007 </script> \u2028"}
inputs:
  - {name: n, type: number, default: 1.50}
outputs:
  - {name: made, source: a.a_x}
triggers:
  - type: scheduled
    config: {cron: "0 5 * * *", timezone: Europe/Berlin, jitter: 5m, catchup: 1h, inputs: {n: 2.5}}
  - {type: scheduled, config: {at: "2031-01-01T00:00:00Z", start: "2026-01-01T00:00:00Z"}}
  - {type: event, config: {event: rang}}
error_handler: {id: handler, type: action, action: log, inputs: {message: failed}}
steps:
  - {id: a, type: action, action: set, inputs: {a_x: "${n}"}}
"""

WORKFLOWS = """
SELECT id, name, description, version, status, digest, origin, path, triggers, inputs, outputs,
  steps, error_handler, metadata, labels FROM workflows ORDER BY id
"""
SCHEDULES = """
SELECT id, cron_expression, at, timezone, inputs, policy, origin, active, reason
FROM workflow_schedules ORDER BY id
"""
ENDED = """
UPDATE workflow_schedules SET last_run_at = at, next_run_at = NULL, active = false,
  reason = 'ended' WHERE at IS NOT NULL
"""

WORKFLOW = {
    "description": "'other'",
    "version": "'9.9.9'",
    "status": "'inactive'",
    "path": "'other.yaml'",
    "triggers": "'[]'",
    "inputs": "'[]'",
    "outputs": "'[]'",
    "steps": """'[{"id":"a","type":"action","action":"fail"}]'""",
    "error_handler": "NULL",
    "metadata": "'{}'",
    "labels": """'{"team":"c"}'""",
}

SCHEDULE = {
    "cron_expression": "'0 6 * * *'",
    "timezone": "'UTC'",
    "inputs": "'{}'",
    "policy": "replace(policy, 'skip', 'allow')",
    "active": "false, reason = 'removed'",
    "origin": "'api'",
}


async def _meddle(place: Place, statement: str) -> None:
    def change(tx: Transaction) -> None:
        assert tx.execute(text(statement)).rowcount == 1

    await place.app.store.write(change)


async def _rows(place: Place) -> list[Any]:
    """What definitions say of the workflow and its schedules, as it is recorded."""

    def look(tx: Transaction) -> list[Any]:
        found = [*tx.execute(text(WORKFLOWS)), *tx.execute(text(SCHEDULES))]
        return [tuple(each) for each in found]

    return await place.app.store.read(look)


async def _is_put_back(place: Place, statement: str) -> None:
    was = await _rows(place)
    await _meddle(place, statement)
    assert await _rows(place) != was
    assert (await place.reconcile()).drift.of(Fate.UPDATED) == ["whole"]
    assert await _rows(place) == was
    assert not (await place.reconcile()).drift.changes


def _each(table: str, columns: dict[str, str], where: str) -> list[Any]:
    return [
        pytest.param(
            f"UPDATE {table} SET {name} = {value} WHERE {where}",  # ruff: ignore[hardcoded-sql-expression]  # all of it is ours
            id=f"{table}.{name}",
        )
        for name, value in columns.items()
    ]


MEDDLING = [
    *_each("workflows", WORKFLOW, "id = 'whole'"),
    *_each("workflow_schedules", SCHEDULE, "cron_expression IS NOT NULL"),
    *_each("workflow_schedules", {"at": "at + 1000"}, "at IS NOT NULL"),
]


@pytest.mark.parametrize("statement", MEDDLING)
async def test_whatever_is_changed_is_put_back(
    tmp_path: Path, clock: FakeClock, statement: str
) -> None:
    """Each column that the definition determines; what nobody changed is not touched again."""
    async with opened(tmp_path, clock) as place:
        place.write("whole.yaml", WHOLE)
        place.write("small.yaml", flow("small"))
        assert (await place.reconcile()).drift.of(Fate.CREATED) == ["small", "whole"]
        assert not (await place.reconcile()).drift.changes
        await _is_put_back(place, statement)


async def test_it_is_put_back_on_postgresql(
    tmp_path: Path, clock: FakeClock, postgres: Postgres
) -> None:
    """JSON is compared there too as it was encoded."""
    with postgres.empty() as url:
        async with opened(tmp_path, clock, database_url=url) as place:
            place.write("whole.yaml", WHOLE)
            assert (await place.reconcile()).drift.of(Fate.CREATED) == ["whole"]
            assert not (await place.reconcile()).drift.changes
            for each in MEDDLING:
                await _is_put_back(place, each.values[0])


async def test_what_time_changes_is_no_drift(tmp_path: Path, clock: FakeClock) -> None:
    """A schedule that has fired and come to its end is as its definition says."""
    async with opened(tmp_path, clock) as place:
        place.write("whole.yaml", WHOLE)
        await place.reconcile()
        await _meddle(place, ENDED)
        assert not (await place.reconcile()).drift.changes


async def test_every_sample_is_found_as_it_was_left(tmp_path: Path, clock: FakeClock) -> None:
    """Whatever a definition says, what was recorded of it is known again."""
    samples = Path(__file__).parents[2] / "definitions"
    async with opened(tmp_path, clock) as place:
        for each in samples.rglob("*.yaml"):
            place.write(str(each.relative_to(samples)), each.read_text())
        assert (await place.reconcile()).drift.of(Fate.CREATED)
        assert not (await place.reconcile()).drift.changes
