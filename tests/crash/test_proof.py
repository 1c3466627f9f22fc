"""What proves that nothing was lost or done twice sees it when something was."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.crash.daemon import Daemon
from tests.crash.proof import Proof, Work
from tests.eventually import wait_until

WORK = Work(6, frozenset({1, 3}), frozenset({3}), 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """Three executions that a real daemon has done; another version has come since."""
    folder = tmp_path_factory.mktemp("proof")
    proof = Proof(folder, WORK)
    with Daemon(folder) as daemon:
        wait_until(lambda: proof.knows("work"), "the workflow")
        proof.create(3)
        wait_until(proof.all_ended, "all to end")
        proof.remember("nothing")
        assert daemon.stop() == 0
    return proof


@pytest.fixture
def proof(finished: Proof, tmp_path: Path) -> Iterator[Proof]:
    """The same; what a test does to it is undone."""
    state = finished.trace.with_name(".windlass")
    shutil.copy(finished.trace, tmp_path / "trace")
    shutil.copytree(state, tmp_path / "state")
    yield finished
    shutil.copy(tmp_path / "trace", finished.trace)
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "state", state)


def _sql(statement: str) -> Callable[[Proof], None]:
    def change(proof: Proof) -> None:
        engine = create_engine(proof.url)
        with engine.begin() as tx:
            assert tx.execute(text(statement)).rowcount > 0
        engine.dispose()

    return change


def _does_again(step: str) -> Callable[[Proof], None]:
    def change(proof: Proof) -> None:
        execution = proof.done()[0][0]
        with proof.trace.open("a") as trace:
            trace.write(f"{execution} {step}\n")

    return change


def _never_did(proof: Proof) -> None:
    lines = proof.trace.read_text().splitlines(keepends=True)
    proof.trace.write_text("".join(lines[1:]))


LAST_IS_LATER = """
UPDATE execution_checkpoints AS c SET seq = seq + 1 WHERE seq =
  (SELECT max(seq) FROM execution_checkpoints o WHERE o.execution_id = c.execution_id)
"""
ONE_MORE = """
INSERT INTO execution_checkpoints
  (execution_id, seq, type, step_id, attempt, context, created_at)
SELECT execution_id, seq + 1, 'completed', 's5', 1, context, created_at
FROM execution_checkpoints c WHERE seq =
  (SELECT max(seq) FROM execution_checkpoints o WHERE o.execution_id = c.execution_id)
"""

DAMAGE = {
    "a completion is lost": (
        _sql("DELETE FROM execution_checkpoints WHERE type = 'completed' AND step_id = 's2'"),
        "not recorded",
    ),
    "a completed step ran again": (_does_again("s1"), "completed steps ran again"),
    "a step is recorded and was never done": (_never_did, "recorded and never done"),
    "a version has changed": (
        _sql("UPDATE workflow_versions SET content = replace(content, 's5', 's6')"),
        "a pinned version has changed",
    ),
    "a result is another one": (
        _sql("""UPDATE workflow_executions SET outputs = '{"other": 1}'"""),
        "recorded otherwise",
    ),
    "an execution ended otherwise": (
        _sql("UPDATE workflow_executions SET status = 'failed'"),
        "failed",
    ),
    "an event is left out": (_sql(LAST_IS_LATER), "its events are"),
    "something came after the end": (_sql(ONE_MORE), "after its end"),
}


def test_what_is_as_it_should_be_passes(proof: Proof) -> None:
    """Nothing was done to it."""
    proof.check()


@pytest.mark.parametrize("name", DAMAGE)
def test_whatever_was_lost_or_repeated_is_seen(proof: Proof, name: str) -> None:
    """Each kind of damage by itself, and said by its own words."""
    damage, said = DAMAGE[name]
    damage(proof)
    with pytest.raises(AssertionError, match=said):
        proof.check()


def test_what_must_not_be_repeated_is_counted_by_itself(proof: Proof) -> None:
    """Where a late step is excused, one that must never be repeated is not."""
    _does_again("s3")(proof)
    with pytest.raises(AssertionError, match="must not be repeated"):
        proof.check(late=1)
