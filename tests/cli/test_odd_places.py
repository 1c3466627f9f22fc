"""A state directory of any name has its own database, and nothing lands beside it."""

import os
from pathlib import Path

import pytest

from controller.core.problem import Refused
from controller.location import database_url
from controller.store.connecting import parse_url, sqlite_path
from tests.cli.place import GREETING, Place
from tests.crash.daemon import Daemon

ODD = ["x?1", "x?a=b&c", "50%", "a%20b", "a#b", "a b", "é@:[;]'\"", "?"]
"""Names that mean something else in a URL, a pattern or a shell."""


@pytest.mark.parametrize("name", ODD)
def test_a_database_is_in_its_state_directory(here: Place, name: str) -> None:
    """Made, looked at, copied and put back there, and the copy beside it."""
    state = ("--state-dir", name)
    file = here.write("definitions/greeting.yaml", GREETING)
    here.fine("workflows:create", "--file", file, *state)
    here.fine("workflows:execute", "--id", "greeting", *state)
    here.fine("doctor", "--full", *state)
    copy = Path(here.fine("backup", "--format", "json", *state).data["path"])
    assert copy.parent == Path(name, "backups")
    here.fine("workflows:execute", "--id", "greeting", *state)
    here.fine("restore", copy, "--force", *state)
    listed = here.fine("workflows:history", "--format", "json", *state).data
    assert len(listed["executions"]) == 1
    assert {each.name for each in here.path.iterdir()} == {"definitions", name}


def test_directories_that_differ_after_a_question_mark_share_nothing(tmp_path: Path) -> None:
    """Two controllers, each with its own."""
    (tmp_path / "definitions").mkdir()
    for name in ("x?1", "x?2"):
        with Daemon(tmp_path, "--state-dir", name) as daemon:
            assert daemon.stop() == 0
        assert (tmp_path / name / "windlass.db").is_file()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", [*ODD, os.fsdecode(b"\xff?%41")])
def test_a_directory_names_its_database(name: str) -> None:
    """Whatever it is called, UTF-8 or not: the URL that is made of it leads back to it."""
    directory = Path("/there", name)
    assert sqlite_path(parse_url(database_url(directory))) == directory / "windlass.db"


def test_a_host_is_no_place_for_a_file() -> None:
    """Two slashes and a name."""
    with pytest.raises(Refused, match="SQLite file"):
        parse_url("sqlite://host/windlass.db")
