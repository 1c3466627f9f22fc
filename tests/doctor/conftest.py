"""`worked`: on each backend, a copy of a database that has seen real work."""

import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from controller.app import run_main
from controller.settings import Settings
from tests.doctor.place import Worked
from tests.doctor.worked import go_on, work
from tests.growth.grown import settings_for
from tests.store.conftest import BACKENDS

Original = tuple[Settings, dict[str, str]]


@pytest.fixture(scope="session", params=BACKENDS)
def original(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Original]:
    """The database that is copied, and its executions by what became of them."""
    folder = tmp_path_factory.mktemp("worked")
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(request.getfixturevalue("postgres").migrated())
        settings = settings_for(folder, url)
        yield settings, run_main(work(settings))


@pytest.fixture
def worked(request: pytest.FixtureRequest, original: Original, tmp_path: Path) -> Iterator[Worked]:
    """A copy of the test's own."""
    with _copied(request, original, tmp_path) as found:
        yield found


@contextmanager
def _copied(request: pytest.FixtureRequest, original: Original, folder: Path) -> Generator[Worked]:
    settings, ids = original
    with ExitStack() as stack:
        url = None
        if settings.database_url is None:
            shutil.copy(settings.state_dir / "windlass.db", folder / "windlass.db")
        else:
            server = request.getfixturevalue("postgres")
            url = stack.enter_context(server.copied(settings.database_url))
        yield stack.enter_context(Worked.at(settings_for(folder, url), ids))


@pytest.fixture(scope="session")
def ended(
    request: pytest.FixtureRequest,
    original: Original,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """How every execution ends in a database that was not damaged: id → status."""
    folder = tmp_path_factory.mktemp("ended")
    with _copied(request, original, folder) as found:
        return run_main(go_on(found.settings, found.ids))
