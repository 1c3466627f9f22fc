"""What is over goes, and everything else goes on meanwhile."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.daemon import Daemon, windlass
from tests.eventually import wait_until
from tests.service.place import flow

MANY = 100_000
"""Executions: to remove them takes many seconds."""

FLOW = """name: tick
triggers:
  - {type: scheduled, config: {cron: "* * * * * *", overlap: allow}}
steps:
  - {id: a, type: action, action: set}
"""

COPY = """
INSERT INTO {table} ({columns})
WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < {many})
SELECT {values} FROM {table}, n WHERE {id} = ?
"""


def _copy(database: sqlite3.Connection, table: str, execution: str, **changed: str) -> None:
    """So many more rows of an execution, of executions that ended long ago."""
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    columns = [each for each in columns if (table, each) != ("workflow_logs", "id")]
    changed["id" if table == "workflow_executions" else "execution_id"] = "'c' || x"
    values = [changed.get(each, f"{table}.{each}") for each in columns]
    database.execute(
        COPY.format(
            table=table,
            columns=", ".join(columns),
            values=", ".join(values),
            many=MANY,
            id="id" if table == "workflow_executions" else "execution_id",
        ),
        (execution,),
    )


def _ago(database: sqlite3.Connection) -> None:
    """Copies of the one execution there is, which ended long ago."""
    [[execution]] = database.execute("SELECT id FROM workflow_executions WHERE workflow_id = 'w'")
    ago = {"created_at": "1", "completed_at": "1", "root_id": "'c' || x"}
    _copy(database, "workflow_executions", execution, **ago)
    _copy(database, "execution_checkpoints", execution)
    database.commit()


@pytest.mark.timeout(300)
def test_schedules_fire_while_a_hundred_thousand_are_pruned(tmp_path: Path) -> None:
    """Whatever was due while the first of them had gone and the last had not has fired then."""
    (tmp_path / "w.yaml").write_text(flow("w"))
    windlass("workflows:create", "--file", "w.yaml", cwd=tmp_path)
    windlass("workflows:execute", "--id", "w", cwd=tmp_path)
    path = tmp_path / ".windlass" / "windlass.db"
    with closing(sqlite3.connect(path, timeout=60)) as database:
        _ago(database)
        (tmp_path / "definitions").mkdir()
        (tmp_path / "definitions" / "tick.yaml").write_text(FLOW)
        with Daemon(tmp_path, extra={"WINDLASS_RETENTION_INTERVAL": "1s"}):
            _watch(database)


def _watch(database: sqlite3.Connection) -> None:
    """See it fire after the first have gone, and before the last."""

    def asked(query: str) -> int:
        found: int = database.execute(query).fetchone()[0]
        return found

    left = "SELECT count(*) FROM workflow_executions WHERE created_at = 1"
    fires = "SELECT count(*) FROM workflow_executions WHERE workflow_id = 'tick'"
    wait_until(lambda: asked(left) < MANY, "the first go", within=30)
    before = asked(fires)
    wait_until(lambda: asked(fires) > before + 1, "it fires", within=30)
    assert asked(left) > 0
