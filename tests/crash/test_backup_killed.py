"""`kill -9` amid `backup` and `restore`: under a name is the old file, the new one, or none."""

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.place import GREETING, Place, place_at
from tests.crash.daemon import windlass
from tests.eventually import wait_until

MEGABYTES = 40
"""What the database holds: a copy takes long enough to be killed in the middle."""

ADD = "INSERT INTO audit_log (at, principal, verb, detail) SELECT 1, 'x',"

Seen = Callable[[], bool]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large database of one workflow; copied by each test."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "g.yaml").write_text(GREETING)
    windlass("workflows:create", "--file", "g.yaml", cwd=folder)
    path = folder / ".windlass" / "windlass.db"
    with sqlite3.connect(path) as database:
        for _ in range(MEGABYTES):
            database.execute(f"{ADD} 'fill', '\"' || hex(randomblob(500000)) || '\"'")
    database.close()
    return path


def _place(folder: Path, large: Path) -> Path:
    (folder / ".windlass").mkdir(parents=True)
    (folder / "definitions").mkdir()
    return Path(shutil.copy(large, folder / ".windlass" / "windlass.db"))


def _rows(path: Path) -> int:
    """How much a database holds, which is sound."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found: int = database.execute("SELECT count(*) FROM audit_log").fetchone()[0]
    finally:
        database.close()
    return found


def _killed(place: Place, arguments: tuple[str, ...], seen: Seen) -> bool:
    """Kill a command as soon as something is seen; whether it had not ended by itself."""
    with place.beside(*arguments) as process:
        wait_until(lambda: seen() or process.poll() is not None, "what it is killed at", within=60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL


def _holds(path: Path, megabytes: float) -> bool:
    """Whether the file is there, and so large."""
    try:
        return path.stat().st_size >= megabytes * 1_000_000
    except OSError:
        return False


@pytest.mark.parametrize("megabytes", [0, 5, 20])
def test_a_backup_that_is_killed_leaves_no_half_copy(
    tmp_path: Path, large: Path, megabytes: int
) -> None:
    """At first, or in the middle; an older copy of that name stays, and the next one works."""
    database = _place(tmp_path, large)
    copies = tmp_path / "copies"
    copies.mkdir()
    copy = copies / "windlass-x.db"
    before = _rows(database)

    def seen() -> bool:
        return any(_holds(each, megabytes) for each in copies.glob(".*.part"))

    with place_at(tmp_path, None) as place:
        assert _killed(place, ("backup", "-o", str(copy)), seen)
        assert not copy.exists()
        windlass("backup", "-o", str(copy), cwd=tmp_path)
        with sqlite3.connect(database) as more:
            more.execute(f"{ADD} 'one more', 1")
        more.close()
        assert _killed(place, ("backup", "-o", str(copy), "--force"), seen)
    assert _rows(copy) == before
    windlass("backup", "-o", str(copy), "--force", cwd=tmp_path)
    assert _rows(copy) == before + 1
    assert [each.name for each in copies.iterdir()] == [copy.name], "and what was left has gone"


@pytest.mark.parametrize("moment", ["begun", "half", "old one kept", "in its place"])
def test_a_restore_that_is_killed_leaves_the_old_or_the_new(
    tmp_path: Path, large: Path, moment: str
) -> None:
    """The database in its place is whole, commands use it, and doctor clears up what was left."""
    database = _place(tmp_path, large)
    shutil.copy(database, tmp_path / "copy.db")
    new = _rows(database) + 1
    with sqlite3.connect(database) as more:
        more.execute("DELETE FROM audit_log WHERE verb = 'fill' AND id % 2 = 0")
    more.close()
    old = _rows(database)
    inode = database.stat().st_ino
    staged = database.with_name("windlass.db.restoring")
    moments: dict[str, Seen] = {
        "begun": staged.exists,
        "half": lambda: _holds(staged, MEGABYTES / 2),
        "old one kept": lambda: any(database.parent.glob("*.before-restore-*")),
        "in its place": lambda: database.stat().st_ino != inode,
    }
    with place_at(tmp_path, None) as place:
        killed = _killed(place, ("restore", "copy.db", "--force"), moments[moment])
    assert killed or moment == "in its place"
    allowed = {"begun": {old}, "half": {old}, "in its place": {new}}
    assert _rows(database) in allowed.get(moment, {old, new})
    windlass("workflows:list", cwd=tmp_path)
    windlass("doctor", "--repair", cwd=tmp_path)
    found = json.loads(windlass("doctor", "--full", "-f", "json", cwd=tmp_path).stdout)
    left = {each["name"] for each in found if each["result"] != "ok"}
    assert left <= {"restore-kept", "sandbox", "git", "disk"}
    windlass("restore", "copy.db", "--force", cwd=tmp_path)
    assert _rows(database) == new
