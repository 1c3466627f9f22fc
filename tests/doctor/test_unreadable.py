"""Values that are not what their column says: each is told, and no other goes unseen."""

import pytest

from controller.doctor.finding import UNREADABLE
from controller.store.values import decode
from tests.doctor.place import Worked

DEEP = "[" * 200_000
"""JSON deeper than anybody follows."""

OTHER = "UPDATE workflow_executions SET duration = duration + 1 WHERE id = :failed"
"""Something else that is wrong, and can be mended."""

NO_TEXT = "CAST(X'FF' AS TEXT)"

ANYWHERE = [
    ("workflow_executions", "policy", "'{'"),
    ("workflow_executions", "policy", "'\"s\"'"),
    ("workflow_executions", "inputs", "'x'"),
    ("workflow_executions", "inputs", f"'{DEEP}'"),
    ("workflow_executions", "created_at", "-1"),
    ("workflow_executions", "created_at", "4611686018427387904"),
    ("execution_checkpoints", "context", "'{'"),
    ("execution_checkpoints", "context", "'5'"),
    ("workflow_schedules", "policy", "'{'"),
    ("workflow_schedules", "policy", "'\"s\"'"),
    ("workflow_schedules", "inputs", "'x'"),
    ("workflow_schedules", "metadata", f"'{DEEP}'"),
]
"""What both databases take: table, column, value."""

SQLITE = [
    ("workflow_executions", "created_at", "'x'"),
    ("workflow_executions", "started_at", "'x'"),
    ("workflow_executions", "error", "X'FF'"),
    ("workflow_executions", "outputs", NO_TEXT),
    ("workflow_executions", "schedule_id", NO_TEXT),
    ("execution_checkpoints", "created_at", "'x'"),
    ("execution_checkpoints", "created_at", "X'FF'"),
    ("execution_checkpoints", "attempt", "X'FF'"),
    ("workflow_schedules", "next_run_at", "'x'"),
    ("workflow_schedules", "next_run_at", "1.5"),
    ("workflow_schedules", "last_run_at", "'x'"),
    ("workflow_schedules", "updated_at", "'x'"),
    ("workflow_schedules", "policy", "X'FF'"),
    ("workflow_schedules", "timezone", NO_TEXT),
]
"""What only SQLite takes, whose columns hold anything."""

WHICH = {
    "workflow_executions": ("id = :completed", "execution-unreadable"),
    "execution_checkpoints": ("execution_id = :completed", "execution-unreadable"),
    "workflow_schedules": ("cron_expression = '0 * * * *'", "schedule-invalid"),
}
"""Which rows of each are damaged, and what is found then."""


@pytest.mark.parametrize(("table", "column", "value"), [*ANYWHERE, *SQLITE])
def test_a_value_that_is_none_is_told_and_left(
    worked: Worked, table: str, column: str, value: str
) -> None:
    """By a quick look and a full one; what else is wrong is found, and mended all the same."""
    if worked.path is None and (table, column, value) in SQLITE:
        pytest.skip("PostgreSQL takes no such value")
    which, kind = WHICH[table]
    worked.sql(f"UPDATE {table} SET {column} = {value} WHERE {which}", OTHER)  # ruff: ignore[hardcoded-sql-expression]  # a test's own
    for full in (False, True):
        kinds = {each.kind for each in worked.found(full=full)}
        assert kinds == {kind, "execution-unlike-events"}
    for _ in range(2):
        worked.examine(repair=True)
        assert [each.kind for each in worked.found()] == [kind]


@pytest.mark.parametrize("value", [NO_TEXT, "X'FF'"])
def test_a_definition_that_is_no_text_is_told_once(worked: Worked, value: str) -> None:
    """Of many that are read at once the others are looked at."""
    _only_sqlite(worked)
    worked.sql(
        f"UPDATE workflow_versions SET content = {value} WHERE workflow_id = 'plain'",  # ruff: ignore[hardcoded-sql-expression]  # a test's own
        "UPDATE workflow_versions SET content = '{' WHERE workflow_id = 'failing'",
        OTHER,
    )
    expected = worked.sql(
        "SELECT digest FROM workflow_versions WHERE workflow_id IN ('plain', 'failing')"
    )
    for full in (False, True):
        found = worked.found(full=full)
        assert {each.kind for each in found} == {"version-content"}
        assert sorted(each.subject for each in found) == sorted(row[0] for row in expected)


def test_a_row_without_a_readable_key_is_told(worked: Worked) -> None:
    """Its neighbours cannot be paged through; everything else is looked at."""
    _only_sqlite(worked)
    worked.sql(f"UPDATE workflow_executions SET id = {NO_TEXT} WHERE id = :completed")  # ruff: ignore[hardcoded-sql-expression]  # a test's own
    worked.sql("UPDATE workflow_schedules SET next_run_at = NULL WHERE reason IS NULL")
    for full in (False, True):
        kinds = {each.kind for each in worked.found(full=full)}
        assert {"rows-unreadable", "schedule-time"} <= kinds


@pytest.mark.parametrize("column", ["name", "lease_until"])
def test_a_lease_until_no_time_is_nobodys(worked: Worked, column: str) -> None:
    """It is left over, and removed."""
    _only_sqlite(worked)
    worked.sql(
        "INSERT INTO leases VALUES ('controller/x', 'x', 1)",
        f"UPDATE leases SET {column} = X'FF'",  # ruff: ignore[hardcoded-sql-expression]  # a test's own
    )
    assert [each.kind for each in worked.found()] == ["lease-left-over"]
    worked.examine(repair=True)
    assert worked.found() == []


def test_what_cannot_be_mended_for_other_damage_is_left(worked: Worked) -> None:
    """A schedule without a next time, of which nobody knows what it has dealt with."""
    _only_sqlite(worked)
    change = "next_run_at = NULL, last_run_at = NULL, created_at = 'x'"
    worked.sql(f"UPDATE workflow_schedules SET {change} WHERE cron_expression = '0 * * * *'", OTHER)  # ruff: ignore[hardcoded-sql-expression]  # a test's own
    worked.examine(repair=True)
    assert [each.kind for each in worked.found()] == ["schedule-time"]


def test_a_root_that_cannot_be_read_is_not_on_its_way(worked: Worked) -> None:
    """What is below it is judged as what stays."""
    worked.sql(
        "DELETE FROM execution_checkpoints WHERE execution_id = :everything AND seq < 3",
        "UPDATE workflow_executions SET root_id = :completed WHERE id = :everything",
        "UPDATE workflow_executions SET inputs = '{' WHERE id = :completed",
    )
    kinds = {each.kind for each in worked.found()}
    assert kinds == {"execution-gap", "execution-unreadable"}


def test_deep_json_is_no_value() -> None:
    """What the tests above rely on: it is no `ValueError` that is raised."""
    with pytest.raises(RecursionError):
        decode(DEEP)
    assert RecursionError in UNREADABLE


def _only_sqlite(worked: Worked) -> None:
    if worked.path is None:
        pytest.skip("PostgreSQL takes no such value")
