"""A grown database is one that the engine could have written, and is looked at in bounded steps."""

import gc
import tracemalloc
from collections.abc import Generator

import pytest

from controller.app import run_main
from controller.clock import SystemClock
from controller.doctor import examine
from controller.doctor.examine import Examination, Manner, around_of
from controller.doctor.finding import Report
from controller.execute.action import BUILT_IN
from controller.store.direct import Direct
from tests.growth.grown import Size, grow, settings_for

SIZE = Size(4_000, 80, workflows=10, schedules=5)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with thousands of executions."""
    settings = settings_for(tmp_path_factory.mktemp("grown"))
    run_main(grow(settings, SIZE))
    return settings.url


def _examined(url: str, *, full: bool) -> Report:
    with Direct.open(url) as database:
        around = around_of(database, None, SystemClock().now())
        manner = Manner(full=full, repair=False)
        return Examination(database, BUILT_IN, around, manner).run()


def test_a_full_look_sees_all_and_finds_nothing(url: str) -> None:
    """Every execution once; what is copied is as sound as what it is a copy of."""
    report = _examined(url, full=True)
    assert report.looked["executions"] == SIZE.finished + SIZE.waiting
    assert report.tallies == {}


def test_a_quick_look_is_bounded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is: so many of each kind, and the newest."""
    monkeypatch.setattr(examine, "OF_EACH", 20)
    monkeypatch.setattr(examine, "NEWEST", 200)
    report = _examined(url, full=False)
    assert 200 <= report.looked["executions"] <= 200 + 5 * 20
    assert report.tallies == {}


@pytest.fixture
def collecting() -> Generator[None]:
    """Garbage is collected as ever: a command that ran in this process before asked for less."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collecting")
def test_a_full_look_holds_a_page_in_memory(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the page takes less than half of the memory, of the same database."""
    peaks = []
    for page in (2_000, 200):
        monkeypatch.setattr(examine, "PAGE", page)
        _examined(url, full=False)  # what is compiled once is no matter
        tracemalloc.start()
        _examined(url, full=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] * 2 < peaks[0]
