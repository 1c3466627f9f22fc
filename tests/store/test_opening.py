"""Opening: what is ours is opened, everything else is refused, and nothing of it is touched."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from controller.core.problem import NotFound, Refused
from controller.location import database_url
from controller.store.ledger_executions import status_counts
from controller.store.opening import HEAD
from controller.store.store import Store
from tests.sources import ROOT


async def _open(path: Path, *, create: bool = True) -> None:
    async with Store.open(f"sqlite:///{path}", monotonic=time.monotonic, create=create):
        pass


async def _refusal(path: Path, *, create: bool = True) -> Refused:
    with pytest.raises(Refused) as refused:
        await _open(path, create=create)
    assert str(path) in str(refused.value)
    assert refused.value.hint
    return refused.value


def _look(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


async def test_a_new_database_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Folders and all; nobody else may read what executions were given."""
    folder = tmp_path / "deep" / "state"
    async with Store.open(database_url(folder), monotonic=time.monotonic) as store:
        assert store.path == folder / "windlass.db"
        assert await store.read(status_counts) == {}
    assert store.path.stat().st_mode & 0o077 == 0


async def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    """Such as one a crash left before anything was in it."""
    (tmp_path / "x.db").touch()
    await _open(tmp_path / "x.db")


async def test_a_database_is_not_made_where_one_is_expected(tmp_path: Path) -> None:
    """With `create=False` a missing or an empty one is not found, and stays so."""
    missing = tmp_path / "none" / "x.db"
    assert isinstance(await _refusal(missing, create=False), NotFound)
    assert not missing.parent.exists()
    (tmp_path / "x.db").touch()
    assert isinstance(await _refusal(tmp_path / "x.db", create=False), NotFound)
    assert _look(tmp_path) == {"x.db": b""}


async def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    """Text, a few bytes, or a header with rubbish behind it; every byte stays."""
    contents = {
        "text.db": b"name: nightly\n" * 500,
        "short.db": b"S",
        "rubbish.db": b"SQLite format 3\0" + bytes(range(256)) * 40,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        problem = await _refusal(tmp_path / name)
        assert problem.reason in {"not-a-database", "database-damaged"}
    assert _look(tmp_path) == contents


async def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    """And says so."""
    assert "is a directory" in str(await _refusal(tmp_path))


@pytest.mark.parametrize("table", ["customers", "alembic_version", "workflows"])
async def test_a_database_of_another_program_is_left_alone(tmp_path: Path, table: str) -> None:
    """Also one that another program's alembic looks after, or whose tables are called as ours."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table} (version_num TEXT)")
    connection.close()
    before = _look(tmp_path)
    problem = await _refusal(path)
    assert problem.reason == "foreign-database"
    assert table in str(problem)
    assert _look(tmp_path) == before


async def test_a_newer_schema_is_refused(database: Path) -> None:
    """It was written by a program that knows more than this one."""
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE windlass_schema SET version_num = '9999'")
    connection.close()
    before = _look(database.parent)
    problem = await _refusal(database)
    assert problem.reason == "newer-schema"
    assert "9999" in str(problem)
    assert HEAD in str(problem)
    assert _look(database.parent) == before


@pytest.mark.parametrize(
    "url", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "nonsense", "http://h/"]
)
async def test_other_databases_are_refused(url: str) -> None:
    """In memory nothing would be durable, and readers would see another database."""
    with pytest.raises(Refused) as refused:
        async with Store.open(url, monotonic=time.monotonic):
            pass
    assert refused.value.reason == "database-url"


READ_ONLY = """
import asyncio, os, sys, time
from controller.core.problem import Refused
from controller.store.store import Store
async def opened(path):
    try:
        async with Store.open("sqlite:///" + path, monotonic=time.monotonic): print("open")
    except Refused as problem:
        print(problem.reason, problem)
asyncio.run(opened(sys.argv[1]))  # everything is imported: the libraries may be out of reach below
os.chmod(sys.argv[2], int(sys.argv[3]))
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
asyncio.run(opened(sys.argv[2]))
"""


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_file_one_may_not_write_is_refused(empty_file: Path, mode: int) -> None:
    """Read-only, or not even readable; a child of root becomes somebody else first."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        for each in ("a.db", "b.db"):
            shutil.copy(empty_file, folder / each)
        before = (folder / "b.db").read_bytes()
        ran = subprocess.run(
            [sys.executable, "-c", READ_ONLY, folder / "a.db", folder / "b.db", str(mode)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        first, second = ran.stdout.splitlines()
        assert first == "open"
        assert second.split()[0] in {"database-read-only", "database-access"}
        assert str(folder / "b.db") in second
        (folder / "b.db").chmod(0o600)
        assert (folder / "b.db").read_bytes() == before
        assert {each.name for each in folder.iterdir()} == {"a.db", "b.db"}


async def test_many_open_a_new_database_at_once(tmp_path: Path) -> None:
    """One of them makes the schema, the others wait for it."""
    await asyncio.gather(*(_open(tmp_path / "x.db") for _ in range(6)))
    await _open(tmp_path / "x.db", create=False)


async def test_many_new_databases_are_opened_at_once(tmp_path: Path) -> None:
    """In one process: each gets a schema of its own, all of it."""
    paths = [tmp_path / f"{number}.db" for number in range(8)]
    await asyncio.gather(*(_open(path) for path in paths))
    for path in paths:
        await _open(path, create=False)


IMPORTED = """
import asyncio, json, sys, time
from controller.store.store import Store
async def main():
    async with Store.open("sqlite:///" + sys.argv[1], monotonic=time.monotonic): pass
asyncio.run(main())
print(json.dumps(sorted(sys.modules)))
"""


def test_a_current_database_is_opened_without_alembic(database: Path) -> None:
    """Start-up time: nothing that only migrations or PostgreSQL need is imported."""
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED, str(database)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(json.loads(ran.stdout))
    assert not modules & {"alembic", "mako", "psycopg", "sqlalchemy.orm"}
    assert "sqlalchemy.dialects.postgresql" not in modules


def test_records_are_typed_without_importing_the_database() -> None:
    """`controller.store.records` costs a consumer nothing."""
    code = "import sys, controller.store.records; sys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
