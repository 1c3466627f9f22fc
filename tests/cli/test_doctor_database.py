"""`doctor` on the database: what it says, how it ends, what it leaves alone."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from controller.doctor import examine, files
from controller.store.lock import ControllerLock
from tests.cli.place import FAILING, GREETING, WAITING, Place, Said
from tests.postgres import Postgres


def _worked(here: Place) -> Path:
    """Some executions, and one that waits; the database."""
    here.write("definitions/.keep", "")
    here.create(GREETING, FAILING, WAITING)
    here.fine("workflows:execute", "--id", "greeting")
    assert here("workflows:execute", "--id", "failing").status == 1
    here.fine("workflows:execute", "--id", "waiting", "--async")
    return here.path / ".windlass" / "windlass.db"


def _sql(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(path, isolation_level=None)
    try:
        return [database.execute(each).fetchall() for each in statements][-1]
    finally:
        database.close()


def _wrong(said: Said) -> dict[str, dict[str, Any]]:
    """What is not as it should be, but for the machine."""
    usual = ("sandbox", "git", "disk")
    return {
        each["name"]: each
        for each in said.data
        if each["result"] != "ok" and each["name"] not in usual
    }


def _doctor(here: Place, status: int, *flags: str) -> dict[str, dict[str, Any]]:
    said = here("doctor", "--format", "json", *flags)
    assert said.status == status, said
    return _wrong(said)


def _content(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


@pytest.mark.parametrize(("role", "said"), [("doctor", True), ("execute", False)])
def test_who_repairs_is_not_taken_for_one_who_executes(
    here: Place, role: str, *, said: bool
) -> None:
    """What is created while the database is mended waits for a controller, and that is said."""
    with ControllerLock(_worked(here), role).acquire(0):
        told = here.fine("workflows:execute", "--id", "greeting", "--async").err
    assert ("no controller is at work" in told) == said


def test_what_is_in_the_log_is_looked_at_too(here: Place) -> None:
    """A database that is in use may have most of what is in it beside its file."""
    here.fine("workflows:list")
    path = here.path / ".windlass" / "windlass.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM workflows").fetchone()  # the log stays
        here.create(*(GREETING.replace("greeting", f"greeting{each}") for each in range(20)))
        ((pages, size),) = _sql(path, "SELECT * FROM pragma_page_count, pragma_page_size")
        assert path.stat().st_size < pages * size
        said = here("doctor", "--format", "json").data
    (detail,) = (each["detail"] for each in said if each["name"] == "database")
    assert f"looked at {pages * size:,} bytes" in detail


def test_where_there_is_no_database_none_is_made(here: Place) -> None:
    """It is missing, with what makes one; nothing is there that was not."""
    here.write("definitions/.keep", "")
    for flags in ((), ("--full",), ("--repair",)):
        found = _doctor(here, 1, *flags)
        assert set(found) == {"database-missing"}
        assert "windlass run" in found["database-missing"]["hint"]
        assert [each.name for each in here.path.iterdir()] == ["definitions"]


@pytest.mark.parametrize(
    ("revision", "name", "hint"),
    [("0003", "schema-behind", "windlass run"), ("9999", "schema-ahead", "install")],
)
def test_another_schema_is_told_and_left(here: Place, revision: str, name: str, hint: str) -> None:
    """An older one is not migrated, a newer one not touched; both with what to do."""
    database = _worked(here)
    _sql(database, f"UPDATE windlass_schema SET version_num = '{revision}'")  # ruff: ignore[hardcoded-sql-expression]  # a test's own
    before = _content(database.parent)
    for flags in ((), ("--full",), ("--repair",)):
        found = _doctor(here, 1, *flags)
        assert set(found) == {name}
        assert hint in found[name]["hint"]
    assert _content(database.parent) == before


def test_a_look_changes_nothing(here: Place) -> None:
    """Quick or full, of a database that is well or that is not."""
    database = _worked(here)
    for change in ("SELECT 1", "UPDATE workflow_executions SET duration = duration + 1"):
        _sql(database, change)
        before = _content(database.parent)
        here("doctor")
        here("doctor", "--full")
        assert _content(database.parent) == before


def test_what_is_found_is_told_with_what_to_do(here: Place) -> None:
    """As JSON, and for people below the table; exit status 1 until it is repaired."""
    database = _worked(here)
    assert _doctor(here, 0, "--full") == {}
    _sql(database, "UPDATE workflow_executions SET outputs = '{}' WHERE status = 'completed'")
    [(execution,)] = _sql(database, "SELECT id FROM workflow_executions WHERE status = 'completed'")
    found = _doctor(here, 1)["execution-unlike-events"]
    assert found == {
        "name": "execution-unlike-events",
        "result": "failed",
        "detail": found["detail"],
        "subjects": 1,
        "concerns": [f"{execution}: outputs is {{}}, by its events {{'length': 5}}"],
        "hint": "`windlass doctor --repair` mends it",
    }
    lines = here("doctor").out.splitlines()
    assert lines[-3:] == [
        "execution-unlike-events (failed)",
        f"  {found['concerns'][0]}",
        f"  hint: {found['hint']}",
    ]
    repaired = _doctor(here, 0, "--repair")["execution-unlike-events"]
    assert (repaired["result"], repaired["hint"]) == ("repaired", None)
    assert _doctor(here, 0, "--full") == {}


def test_what_cannot_be_repaired_is_left_and_fails(here: Place) -> None:
    """Exit status 1 after a repair, too, with what was and what was not."""
    database = _worked(here)
    _sql(
        database,
        "UPDATE workflow_executions SET duration = duration + 7 WHERE status = 'failed'",
        "DELETE FROM execution_checkpoints WHERE execution_id ="
        " (SELECT id FROM workflow_executions WHERE status = 'completed')",
    )
    found = _doctor(here, 1, "--repair")
    results = {name: each["result"] for name, each in found.items()}
    assert results == {"execution-unlike-events": "repaired", "execution-gap": "failed"}
    assert set(_doctor(here, 1)) == {"execution-gap"}


def test_many_are_counted_and_some_are_named(here: Place) -> None:
    """Twenty by name; all are repaired."""
    database = _worked(here)
    for _ in range(25):
        here.fine("workflows:execute", "--id", "greeting")
    _sql(database, "UPDATE workflow_executions SET duration = -1 WHERE status = 'completed'")
    found = _doctor(here, 1)["execution-unlike-events"]
    assert (found["subjects"], len(found["concerns"])) == (26, 20)
    assert here("doctor").out.splitlines()[-2] == "  … 26 in all"
    assert _doctor(here, 0, "--repair")["execution-unlike-events"]["subjects"] == 26
    assert _doctor(here, 0) == {}


def test_nothing_is_repaired_beside_a_controller(here: Place) -> None:
    """Exit status 4, who it is, and nothing changes; a look is allowed."""
    database = _worked(here)
    _sql(database, "UPDATE workflow_executions SET outputs = '{}' WHERE status = 'completed'")
    with ControllerLock(database, "controller", "me").acquire(0):
        said = here("doctor", "--repair")
        assert (said.status, f"process {os.getpid()} (controller)" in said.err) == (4, True)
        assert set(_doctor(here, 1)) == {"execution-unlike-events"}


def test_nothing_is_repaired_beside_a_controller_elsewhere(here: Place, postgres: Postgres) -> None:
    """On PostgreSQL another machine's lease says that it is at work."""
    here.write("definitions/.keep", "")
    with postgres.migrated() as url:
        here.fine("workflows:list", "--database-url", url)
        import psycopg  # ruff: ignore[import-outside-top-level]  # an extra

        with psycopg.connect(url, autocommit=True) as other:
            other.execute("INSERT INTO leases VALUES ('controller/x', 'x', 253402300799999)")
            other.execute("INSERT INTO leases VALUES ('controller/gone', 'gone', 1)")
            said = here("doctor", "--repair", "--database-url", url)
            assert (said.status, "x is at work" in said.err) == (4, True)
            other.execute("DELETE FROM leases WHERE owner = 'x'")
            found = _doctor(here, 0, "--repair", "--database-url", url)
            assert {name: each["result"] for name, each in found.items()} == {
                "lease-left-over": "repaired"
            }
            assert other.execute("SELECT count(*) FROM leases").fetchone() == (0,)


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--full",), ("--repair",), ("--full", "--repair")])
def test_a_damaged_file_is_told_and_left(here: Place, flags: tuple[str, ...]) -> None:
    """What can still be read of it is not believed, and nothing is repaired by it."""
    database = _worked(here)
    _spoil(database)
    before = database.read_bytes()
    found = _doctor(here, 1, *flags)
    assert set(found) == {"database-damaged"}
    assert "restore" in found["database-damaged"]["hint"]
    assert database.read_bytes() == before


def _spoil(database: Path) -> None:
    """Write over the page that the audit log begins with, which no check of rows reads."""
    content = database.read_bytes()
    [(root,)] = _sql(database, "SELECT rootpage FROM sqlite_schema WHERE name = 'audit_log'")
    begin = (root - 1) * 4096
    database.write_bytes(content[:begin] + os.urandom(4096) + content[begin + 4096 :])


def test_a_large_file_is_read_through_by_a_full_look_only(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quick one takes seconds, whatever there is."""
    _spoil(_worked(here))
    assert set(_doctor(here, 1)) == {"database-damaged"}
    monkeypatch.setattr(examine, "QUICKLY_READ", 1)
    assert _doctor(here, 0) == {}
    assert set(_doctor(here, 1, "--full")) == {"database-damaged"}


def test_an_index_that_lies_is_made_anew(here: Place) -> None:
    """Only a full look compares indexes with their tables."""
    database = _worked(here)
    change = "UPDATE sqlite_schema SET sql = replace(sql, '{}', '{}') WHERE name = '{}'"
    index = "ix_executions_workflow"
    other = change.format("workflow_id,", "digest,", index)
    _sql(database, "PRAGMA writable_schema=ON", other)
    _sql(database, f"REINDEX {index}")
    _sql(database, "PRAGMA writable_schema=ON", change.format("digest,", "workflow_id,", index))
    assert _doctor(here, 0) == {}
    assert set(_doctor(here, 1, "--full")) == {"index-damaged"}
    found = _doctor(here, 0, "--full", "--repair")
    assert found["index-damaged"]["result"] == "repaired"
    assert _doctor(here, 0, "--full") == {}


def test_a_log_that_has_grown_is_cut_back(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once nobody reads what is in it any more; until then it is told."""
    database = _worked(here)
    monkeypatch.setattr(files, "LARGE_LOG", 100_000)
    reader = sqlite3.connect(database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM audit_log").fetchone()
    insert = "INSERT INTO audit_log (at, principal, verb, detail)"
    _sql(database, f"{insert} SELECT 1, 'x', 'x', replace(hex(zeroblob(150000)), '0', 'x')")
    assert _doctor(here, 0)["wal-large"]["result"] == "warning"
    assert _doctor(here, 0, "--repair")["wal-large"]["result"] == "warning"
    reader.execute("COMMIT")
    assert _doctor(here, 0, "--repair")["wal-large"]["result"] == "repaired"
    assert _doctor(here, 0) == {}
    assert reader.execute("SELECT length(detail) FROM audit_log WHERE principal = 'x'").fetchall()
    reader.close()


def test_what_was_left_behind_is_removed(here: Place) -> None:
    """Parts of copies and of restores that were killed; not what is still being made."""
    database = _worked(here)
    here.fine("backup")
    folder = database.parent
    left = [folder / "backups" / ".windlass-1.db.x.part", folder / "windlass.db.restoring"]
    for each in (*left, left[1].with_name("windlass.db.restoring-wal")):
        each.write_bytes(b"half")
    found = _doctor(here, 0)
    assert [each.partition(":")[0] for each in found["file-left-over"]["concerns"]] == [
        str(left[1].absolute()),
        f"{left[1].absolute()}-wal",
        str(left[0].absolute()),
    ]
    assert _doctor(here, 0, "--repair")["file-left-over"]["result"] == "repaired"
    assert not any(each.exists() for each in left)
    assert len(list((folder / "backups").iterdir())) == 1
    assert _doctor(here, 0) == {}


def test_a_database_that_was_replaced_is_told_and_stays(here: Place) -> None:
    """It may be all that is left of what was; only people remove it."""
    _worked(here)
    here.fine("backup", "--output", "copy.db")
    here.fine("restore", "copy.db", "--force")
    for flags in ((), ("--repair",)):
        assert _doctor(here, 0, *flags)["restore-kept"]["result"] == "warning"
    assert list((here.path / ".windlass").glob("windlass.db.before-restore-*"))


def test_what_others_could_read_is_closed(here: Place) -> None:
    """The database holds what executions were given; the directory is nobody else's to write."""
    database = _worked(here)
    database.chmod(0o644)
    database.parent.chmod(0o777)
    found = _doctor(here, 0)["files-open-to-others"]
    assert (found["result"], found["subjects"]) == ("warning", 2)
    assert _doctor(here, 0, "--repair")["files-open-to-others"]["result"] == "repaired"
    assert stat.S_IMODE(database.stat().st_mode) == 0o640
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o775
    assert _doctor(here, 0) == {}


# -- values that are none ---------------------------------------------------------------------


@pytest.mark.parametrize("value", ["'x'", "1.5", "X'FF'", "4611686018427387904", "-1"])
def test_no_time_that_is_none_stops_the_clock(here: Place, value: str) -> None:
    """Whatever an execution says of when it was created, the clock is compared with the others."""
    database = _worked(here)
    _sql(database, f"UPDATE workflow_executions SET created_at = {value} WHERE status = 'failed'")  # ruff: ignore[hardcoded-sql-expression]  # a test's own
    for flags in ((), ("--full",), ("--repair",)):
        assert set(_doctor(here, 1, *flags)) == {"execution-unreadable"}
    _sql(
        database,
        "UPDATE workflow_executions SET created_at = 99999999999999 WHERE status = 'completed'",
    )
    assert set(_doctor(here, 1)) == {"execution-unreadable", "clock"}


def test_a_source_that_cannot_be_read_is_told(here: Place) -> None:
    """And the others are, too; a key that is no text hides them all."""
    database = _worked(here)
    insert = "INSERT INTO sources (id, type, location, phase, problems, failures) VALUES"
    _sql(
        database,
        f"{insert} ('a', 'git', 'x', 'ready', '{{', 0)",
        f"{insert} ('b', 'git', 'x', 'failed', '[]', 0)",
    )
    found = {name: each["result"] for name, each in _doctor(here, 1).items()}
    assert found == {"sync a": "failed", "sync b": "warning"}
    _sql(database, "UPDATE sources SET id = CAST(X'FF' AS TEXT) WHERE id = 'a'")
    assert "sources" in _doctor(here, 1)["rows-unreadable"]["detail"]
