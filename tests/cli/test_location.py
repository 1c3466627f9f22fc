"""Where everything is kept is found without the settings' models, and is where they say."""

from itertools import product
from pathlib import Path

import pytest

from controller.location import Location, location_of
from controller.settings import load_settings
from tests.cli.place import Place

POSTGRES = "postgresql://somebody@localhost/windlass"
SAID: dict[str, tuple[str | None, ...]] = {
    "state_dir": (None, "by-flag"),
    "database_url": (None, "sqlite:///by-flag.db"),
    "WINDLASS_STATE_DIR": (None, "", "by-variable"),
    "WINDLASS_DATABASE_URL": (None, "", POSTGRES),
    "STATE_DIRECTORY": (None, "/var/lib/windlass:/var/lib/other"),
}


def test_it_is_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says something of it, and however many do."""
    monkeypatch.chdir(tmp_path)
    for chosen in product(*SAID.values()):
        said = dict(zip(SAID, chosen, strict=True))
        flags = {name: value for name, value in said.items() if name.islower()}
        environ = {
            name: value for name, value in said.items() if name.isupper() and value is not None
        }
        assert location_of(flags, environ) == load_settings(flags, None, environ).location, said
    nothing = location_of({}, {})
    assert nothing == Location(Path(".windlass"), f"sqlite:///{tmp_path}/.windlass/windlass.db")


def test_a_list_goes_by_the_file(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says of the place counts, and what is wrong with it is told."""
    (here.path / "windlass.yaml").write_text("state_dir: elsewhere\n")
    here.fine("workflows:list")
    assert (here.path / "elsewhere" / "windlass.db").exists()
    monkeypatch.setenv("WINDLASS_STATE_DIR", "nearer")
    here.fine("workflows:list")
    assert (here.path / "nearer" / "windlass.db").exists()
    (here.path / "windlass.yaml").write_text("state_dir: 5\n")
    monkeypatch.delenv("WINDLASS_STATE_DIR")
    said = here("workflows:list")
    assert (said.status, "windlass.yaml: `state_dir`" in said.err) == (4, True)


@pytest.mark.parametrize("command", ["workflows:list", "sync:status", "run"])
def test_an_empty_directory_is_none(here: Place, command: str) -> None:
    """It would be the working directory; whoever says it means something else."""
    said = here(command, "--state-dir", "")
    assert (said.status, "--state-dir: `state_dir` is empty" in said.err) == (4, True), said
    assert not list(here.path.iterdir())
