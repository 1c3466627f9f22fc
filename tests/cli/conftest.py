"""`here`: an empty directory in which command lines are run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.place import Place, place_at


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    """Where command lines are run; see `Place`."""
    with place_at(tmp_path, capsys) as place:
        yield place
