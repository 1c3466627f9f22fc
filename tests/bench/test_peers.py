"""The comparison with peers, without a peer: what they are given, and what becomes of figures."""

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.bench.peers import __main__ as runner
from tests.bench.peers import dagu, install, killed
from tests.bench.peers.process import Failed, environment, members, run, started
from tests.bench.peers.system import (
    KILLED,
    KILLED_STEPS,
    ROUNDS,
    WORKS,
    System,
    compare,
    lateness,
    rounds,
)
from tests.bench.table import render
from tests.eventually import wait_until
from tests.sources import ROOT


def test_dagu_is_given_the_steps_that_the_work_says() -> None:
    """A hundred no-op steps, each after the one before; side by side none waits for another."""
    steps = yaml.safe_load(dagu.definition(100, dagu.NOTHING))["steps"]
    assert [step["name"] for step in steps] == [f"s{number}" for number in range(100)]
    assert [step.get("depends", []) for step in steps] == [
        [f"s{number - 1}"] if number else [] for number in range(100)
    ]
    assert {step["type"] for step in steps} == {"jq"}
    apart = yaml.safe_load(dagu.definition(1_000, dagu.TRUE, chained=False, cron="* * * * *"))
    assert apart["schedule"] == "* * * * *"
    assert len(apart["steps"]) == 1_000
    assert not any("depends" in step for step in apart["steps"])
    assert {step["command"] for step in apart["steps"]} == {"true"}


def test_a_peers_figure_stands_below_ours_with_the_ratio() -> None:
    """Ours ÷ the peer's, by medians; a note says what is not the same."""
    ours = System("Windlass", {})
    peer = System("Peer 1.0", {}, {"t1": "3 rounds"})
    rows = compare("t1", [(ours, {"": [1.0, 2.0, 9.0]}), (peer, {"": [4.0]})], ours)
    assert [line.split("steps in sequence: ")[1] for line in render(rows).splitlines()[1:]] == [
        "Windlass, ms/step                    2    1..9",
        "Peer 1.0 (3 rounds), ms/step         4    4..4                   0.5",
    ]


def test_without_ours_there_is_no_ratio() -> None:
    """Where our own figure is missing a peer is not compared with another peer."""
    ours, one, two = (System(name, {}) for name in ("Windlass", "one", "two"))
    rows = compare("t3", [(one, {"": [1.0]}), (two, {"": [2.0]})], ours)
    assert [row.ours for row in rows] == [None, None]


def test_the_first_round_is_for_warming_up(tmp_path: Path) -> None:
    """It is done like the others, in a folder of its own, and not counted."""
    found = rounds(tmp_path, lambda place: float(place.name))
    assert found == {"": [1.0, 2.0, 3.0, 4.0, 5.0]}
    assert len(list(tmp_path.iterdir())) == ROUNDS + 1


def test_lateness_is_by_nearest_rank() -> None:
    """Of two hundred the 100th, the 198th and the last."""
    late = [number / 100 for number in range(200, 0, -1)]
    assert lateness([late]) == {"p50": [1.0], "p99": [1.98], "max": [2.0]}


def test_names_choose_peers_and_works(capsys: pytest.CaptureFixture[str]) -> None:
    """All where none is named; an unknown one is refused with those that there are."""
    assert runner.chosen(["dagu", "t2"]) == (["dagu"], ["t2"])
    assert runner.chosen([]) == (list(runner.PEERS), list(WORKS))
    assert runner.main(["airflow"]) == 2
    assert "unknown: airflow. There are: dbos, prefect, dagu, t1" in capsys.readouterr().err


@pytest.mark.parametrize("peer", runner.PEERS)
def test_a_peer_is_pinned_by_hash_and_named_where_users_look(peer: str) -> None:
    """Its lock has its version and hashes; the Makefile and the page on performance name it."""
    folder = install.REQUIREMENTS
    lock = folder / f"{peer}.lock"
    lock = lock if lock.exists() else folder / peer / "package-lock.json"
    text = lock.read_text()
    assert install.version(peer) in text
    assert re.search(r"--hash=sha256:|\"integrity\": \"sha512-", text)
    assert re.search(rf"(?mi)^bench-peers: .*## .*\b{peer}\b", (ROOT / "Makefile").read_text())


def test_a_peer_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """The time is bounded, and the process that it left in the background is gone too."""
    deaf = "(trap '' TERM; while :; do sleep 1; done)"
    command = ["sh", "-c", f"echo $$ > group; {deaf} & wait"]
    begin = time.monotonic()
    with pytest.raises(Failed, match="longer than"):
        run(command, tmp_path, environment(tmp_path), within=0.3)
    assert time.monotonic() - begin < 20
    group = int((tmp_path / "group").read_text())
    wait_until(lambda: not members(group), "all have ended")


def test_what_a_peer_says_when_it_fails_is_shown(tmp_path: Path) -> None:
    """The exit status and the end of its output."""
    with pytest.raises(Failed, match=r"exit 3: no such thing"):
        run(["sh", "-c", "echo no such thing >&2; exit 3"], tmp_path, environment(tmp_path))


def test_a_peer_that_ends_before_it_is_ready_is_an_error(tmp_path: Path) -> None:
    """It is not waited for."""
    with (
        pytest.raises(Failed, match="ended: no port"),
        started(["sh", "-c", "echo no port"], tmp_path, environment(tmp_path), lambda _log: False),
    ):
        pass


def test_a_step_that_runs_twice_around_a_kill_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that come again after the restart, and the seconds to the first line after it."""
    monkeypatch.setattr(killed, "ROUNDS", 1)
    who = [f"{each}-{step}" for each in range(KILLED) for step in range(KILLED_STEPS)]

    @contextmanager
    def state(folder: Path) -> Generator[killed.Start]:
        file = folder / "lines"

        @contextmanager
        def start(log: Path | None) -> Generator[killed.Kill]:
            new = who[: killed.AT] if log else who[killed.AT - 2 :]
            with file.open("a") as lines:
                lines.writelines(f"{each} {time.time_ns()}\n" for each in new)
            yield lambda: None

        yield start

    found = killed.figures(tmp_path, state)
    assert found["again"] == [2]
    assert 0 <= found["first"][0] < 1
