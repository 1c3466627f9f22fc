"""Actions run on both loops: the daemon's, and the one that is left when uvloop is not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.execute import process
from controller.execute.launch import Launcher, by_popen
from tests.actions.server import Server, listening
from tests.actions.stage import Command, Stage

BOTH = ["asyncio", pytest.param("uvloop", marks=pytest.mark.uvloop)]


@pytest.fixture(params=BOTH)
def loop_kind(request: pytest.FixtureRequest) -> str:
    """Runs the test on each loop."""
    kind: str = request.param
    return kind


WAYS = [*BOTH, "popen"]


@pytest.fixture(params=WAYS)
def command(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """A process, on both loops, and begun as where the C library is too old."""
    if request.param == "popen":
        monkeypatch.setattr(process, "LAUNCHER", Launcher(by_popen))
    return Command(tmp_path)


@pytest.fixture
def server() -> Iterator[Server]:
    """An HTTP server on the loopback interface."""
    with listening() as server:
        yield server


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Scripts without a sandbox."""
    stage = Stage(tmp_path / "scratch")
    yield stage
    stage.close()
