"""Actions run on both loops: the daemon's, and the one that is left when uvloop is not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.actions.stage import Command, Stage

BOTH = ["asyncio", pytest.param("uvloop", marks=pytest.mark.uvloop)]


@pytest.fixture(params=BOTH)
def loop_kind(request: pytest.FixtureRequest) -> str:
    """Runs the test on each loop."""
    kind: str = request.param
    return kind


@pytest.fixture
def command(tmp_path: Path, loop_kind: str) -> Command:
    """A process, on both loops."""
    del loop_kind
    return Command(tmp_path)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Scripts without a sandbox."""
    stage = Stage(tmp_path / "scratch")
    yield stage
    stage.close()
