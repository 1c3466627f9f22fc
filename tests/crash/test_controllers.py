"""Three controllers on one PostgreSQL: killed, put to sleep, restarted in turn.

The three are shared by the tests of a process: each test begins with all of them at work, and
checks everything that was ever executed.
"""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.conftest import Survived
from tests.crash.daemon import Daemon
from tests.crash.proof import Proof, Work
from tests.eventually import wait_until
from tests.postgres import Postgres

pytestmark = pytest.mark.timeout(400)

EXECUTIONS = 24
WORK = Work(steps=8, shell=frozenset(range(8)), once=frozenset({3, 6}), seconds=0.1)


def ticks(*, paused: bool = False) -> str:
    """Five workflows that are due every second."""
    config = {"cron": "* * * * * *", "overlap": "allow", "paused": paused}
    triggers = json.dumps([{"type": "scheduled", "config": config}])
    steps = "steps: [{id: a, type: action, action: set}]"
    return "---\n".join(f"name: tick{n}\n{steps}\ntriggers: {triggers}\n" for n in range(5))


def together(trace: Path, *, paused: bool = False) -> str:
    """Twenty workflows that are due at one instant, again and again, and leave a trace."""
    config = {"cron": "*/2 * * * * *", "overlap": "allow", "paused": paused}
    triggers = json.dumps([{"type": "scheduled", "config": config}])
    command = json.dumps(f'echo "${{execution.id}} together" >> {trace}')
    step = f"{{id: a, type: action, action: shell, inputs: {{command: {command}}}}}"
    return "---\n".join(
        f"name: together{n}\nsteps: [{step}]\ntriggers: {triggers}\n" for n in range(20)
    )


class Trio:
    """Three controllers with one directory of definitions and one database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.proof = Proof(folder, WORK, url)
        self.definitions = self.proof.definitions
        self.daemons = [self._daemon(name) for name in ("a", "b", "c")]

    def _daemon(self, name: str) -> Daemon:
        home = self.folder / name
        home.mkdir()
        extra = {
            "WINDLASS_SOURCE": str(self.definitions),
            "WINDLASS_DATABASE_URL": self.proof.url,
            "WINDLASS_CHECKPOINT_INTERVAL": "1000",  # a lease lasts three of them
            "WINDLASS_STOP_GRACE": "2000",
            "WINDLASS_MAX_CONCURRENT_WORKFLOWS": "8",
        }
        return Daemon(home, extra=extra)

    def owners(self) -> set[int]:
        """The processes, by id, that have executions."""
        query = "SELECT DISTINCT owner FROM workflow_executions WHERE owner IS NOT NULL"
        return {_pid(row[0]) for row in self.proof.rows(query)}

    def is_busy(self, daemon: Daemon) -> bool:
        """Whether it has executions."""
        return daemon.process.pid in self.owners()

    def keeper(self) -> Daemon | None:
        """The controller that keeps the source."""
        found = self.proof.rows("SELECT owner FROM leases WHERE name = 'source/definitions'")
        pid = _pid(found[0][0]) if found else None
        return next((each for each in self.daemons if each.process.pid == pid), None)

    def steps(self, since: int) -> int:
        """How often steps did something since."""
        return len(self.proof.done()) - since


def _pid(owner: str) -> int:
    return int(owner.split(":")[1])


@pytest.fixture(scope="module")
def controllers(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> Iterator[tuple[Trio, ExitStack]]:
    """Three controllers, and what ends them."""
    with postgres.migrated() as url, ExitStack() as stack:
        yield Trio(tmp_path_factory.mktemp("trio"), url), stack


@pytest.fixture
def trio(controllers: tuple[Trio, ExitStack]) -> Trio:
    """Three controllers, ready, that know the workflow `work` and have nothing to do."""
    made, stack = controllers
    made.proof.faults.clear()
    gone = [each for each in made.daemons if not each.runs]
    for each in gone:
        stack.callback(each.end)
        each.begin()
    for each in gone:
        each.await_ready()
    wait_until(lambda: made.proof.knows("work") and made.keeper(), "work")
    wait_until(made.proof.all_ended, "nothing is left of other tests", within=20)
    return made


def test_what_a_killed_controller_had_goes_on_elsewhere(trio: Trio, survived: Survived) -> None:
    """Within the lease, once; and all three had shared the work before."""
    victim, before = trio.daemons[0], trio.steps(0)
    shared: set[int] = set()

    def is_shared() -> bool:
        shared.update(owners := trio.owners())
        return len(shared) == len(trio.daemons) and victim.process.pid in owners

    trio.proof.create(EXECUTIONS)
    wait_until(
        lambda: is_shared() and trio.steps(before) > 2 * EXECUTIONS,
        "all to share the work, the victim to be busy",
        within=20,
    )
    victim.kill()
    trio.proof.remember("kill -9")
    wait_until(lambda: not trio.is_busy(victim), "taken over", within=8)
    wait_until(trio.proof.all_ended, "all to end", within=40)
    trio.proof.check()
    query = "SELECT count(*) FROM execution_checkpoints WHERE type = 'taken-over'"
    assert trio.proof.rows(query) > [(0,)]
    survived(trio.proof)


def test_a_controller_that_slept_changes_nothing(trio: Trio, survived: Survived) -> None:
    """Stopped until its leases ran out and others had finished; then it wakes, and works again."""
    sleeper, before = trio.daemons[1], trio.steps(0)
    created = trio.proof.create(EXECUTIONS)
    wait_until(
        lambda: trio.steps(before) > EXECUTIONS and trio.is_busy(sleeper),
        "the sleeper to be busy",
        within=20,
    )
    sleeper.process.send_signal(signal.SIGSTOP)
    wait_until(trio.proof.all_ended, "the others to do its work", within=40)
    everything = (
        "SELECT id, status, owner, claims, completed_at FROM workflow_executions ORDER BY id",
        """SELECT execution_id, seq, type, step_id, created_at FROM execution_checkpoints
        ORDER BY execution_id, seq""",
    )
    recorded = [trio.proof.rows(each) for each in everything]
    assert len(recorded[0]) >= len(created)
    trio.proof.remember("kill -STOP")
    sleeper.process.send_signal(signal.SIGCONT)
    wait_until(lambda: sleeper.measures("executions_in_memory", 0), "it notices", within=20)
    assert [trio.proof.rows(each) for each in everything] == recorded
    trio.proof.check(late=1)
    for each in trio.daemons[::2]:
        assert each.stop() == 0
    trio.proof.create(2)
    wait_until(trio.proof.all_ended, "the sleeper to work again", within=20)
    survived(trio.proof)


def test_schedules_fire_once(trio: Trio, survived: Survived) -> None:
    """Five schedules a second, three controllers, one killed and another stopped on the way."""
    file = trio.definitions / "ticks.yaml"
    file.write_text(ticks())

    going = "SELECT 1 FROM workflow_schedules WHERE active"

    def fired() -> int:
        return sum(map(len, trio.proof.fires().values()))

    wait_until(lambda: fired() >= 10, "fires", within=15)
    trio.daemons[0].kill()
    trio.proof.remember("kill -9")
    killed = fired()
    wait_until(lambda: fired() >= killed + 15, "fires without the first", within=10)
    assert trio.daemons[1].stop() == 0
    stopped = fired()
    wait_until(lambda: fired() >= stopped + 15, "fires without the second", within=10)
    file.write_text(ticks(paused=True))
    wait_until(lambda: not trio.proof.rows(going), "they fire no more", within=10)
    for dues in trio.proof.fires().values():
        assert dues == list(range(dues[0], dues[-1] + 1, 1000)), "each second once, none left out"
    wait_until(trio.proof.all_ended, "all to end", within=10)
    trio.proof.check()
    assert told_fires(trio.daemons[2], "exists") == 0
    survived(trio.proof)


def test_what_all_fire_together_is_done_once(trio: Trio, survived: Survived) -> None:
    """Who fires also begins: what several fire at one instant is begun, and told, by one."""
    file = trio.definitions / "together.yaml"
    count = "SELECT count(*) FROM workflow_executions WHERE workflow_id LIKE 'together%'"
    before = [told_fires(each, "created") for each in trio.daemons]

    def told() -> list[float]:
        now = [told_fires(each, "created") for each in trio.daemons]
        return [fires - was for fires, was in zip(now, before, strict=True)]

    file.write_text(together(trio.proof.trace))
    wait_until(
        lambda: trio.proof.rows(count)[0][0] >= 100 and sorted(told())[-2] > 0,
        "more than one to fire",
        within=30,
    )
    file.write_text(together(trio.proof.trace, paused=True))
    going = "SELECT 1 FROM workflow_schedules WHERE active"
    wait_until(lambda: not trio.proof.rows(going), "they fire no more", within=10)
    wait_until(trio.proof.all_ended, "all to end", within=20)
    found = trio.proof.rows(
        "SELECT id, claims FROM workflow_executions WHERE workflow_id LIKE 'together%'"
    )
    assert {row[1] for row in found} == {1}
    done = Counter(one for one, step in trio.proof.done() if step == "together")
    assert done == Counter(row[0] for row in found)
    wait_until(lambda: sum(told()) == len(found), "each is told once")
    assert [told_fires(each, "exists") for each in trio.daemons] == [0, 0, 0]
    trio.proof.check()
    survived(trio.proof)


def told_fires(daemon: Daemon, result: str) -> float:
    """How many fires it has told of with this result, since its start."""
    name = f'windlass_schedule_fires_total{{result="{result}"}} '
    lines = daemon.get("/metrics").decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_a_rolling_restart_loses_nothing(trio: Trio, survived: Survived) -> None:
    """Each is stopped and started again, one after another, amid the work."""
    before = trio.steps(0)
    created = trio.proof.create(EXECUTIONS)
    for number, each in enumerate(trio.daemons):
        aim = (number + 1) * EXECUTIONS
        wait_until(lambda aim=aim: trio.steps(before) >= aim, "some steps", within=30)  # type: ignore[misc]  # mypy cannot infer the default
        assert each.stop() == 0
        trio.proof.remember("stop")
        each.start()
    wait_until(trio.proof.all_ended, "all to end", within=40)
    trio.proof.check()
    failed = trio.proof.rows("SELECT execution_id FROM execution_checkpoints WHERE type = 'failed'")
    assert not {row[0] for row in failed} & set(created)
    survived(trio.proof)


def test_one_controller_keeps_the_source(trio: Trio, survived: Survived) -> None:
    """The others leave it alone; when it dies, one of them goes on; a push to any is heard."""
    applied = "SELECT count(*) FROM source_revisions WHERE source_id = 'definitions'"
    before = trio.proof.rows(applied)[0][0]
    file = trio.definitions / "more.yaml"
    file.write_text("name: more\nsteps: [{id: a, type: action, action: set}]\n")
    wait_until(lambda: trio.proof.knows("more"), "more", within=10)
    assert trio.proof.rows(applied) == [(before + 1,)]
    keeper = trio.keeper()
    assert keeper is not None
    keeper.kill()
    trio.proof.remember("kill -9")
    file.unlink()
    wait_until(lambda: not trio.proof.knows("more"), "its successor looks", within=10)
    assert trio.proof.rows(applied) == [(before + 2,)]
    assert trio.keeper() not in {None, keeper}
    survived(trio.proof)


def test_what_is_left_of_controllers_that_have_gone_is_removed(
    tmp_path: Path, postgres: Postgres
) -> None:
    """Each that crashed leaves a lease of its own name, which nobody else would ever take."""
    import psycopg  # ruff: ignore[import-outside-top-level]  # an extra

    (tmp_path / "definitions").mkdir()
    with postgres.migrated() as url, psycopg.connect(url, autocommit=True) as database:
        soon = time.time_ns() // 1_000_000 - 60_000
        for name, until in (("gone", 1), ("late", soon)):
            values = (f"controller/{name}", name, until)
            database.execute("INSERT INTO leases VALUES (%s, %s, %s)", values)
        daemon = Daemon(tmp_path, extra={"WINDLASS_DATABASE_URL": url}).start()
        try:
            found = {owner for (owner,) in database.execute("SELECT owner FROM leases").fetchall()}
        finally:
            daemon.kill()
    assert "late" in found
    assert "gone" not in found
