"""What was acknowledged is there: after SIGKILL, and around a full disk. Both are real."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.core.problem import Unavailable
from controller.store.dialect import damage
from controller.store.ledger_checkpoints import checkpoints, checkpoints_of
from controller.store.ledger_leases import take_lease
from controller.store.ledger_logs import audit
from controller.store.records import AuditRecord, Batch
from controller.store.store import Store
from controller.store.tables import Transaction
from tests.postgres import Postgres
from tests.sources import ROOT
from tests.store.sample import batch, busy, event, opened, outcomes

WRITERS = 8
"""Executions the killed process records at once."""

WRITER = """
import asyncio, sys
from tests.store.sample import batch, opened

async def record(store, name):
    seq = 0
    while True:
        await store.append(batch(name, seq))
        sys.stdout.write(f"{name} {seq}\\n")
        seq += 1

async def main(url, *names):
    async with opened(url, *names) as store:
        await asyncio.gather(*(record(store, name) for name in names))

asyncio.run(main(*sys.argv[1:]))
"""


def _killed(url: str, names: list[str], lines: int) -> dict[str, int]:
    """Kill a writer after so many lines; the last event of each execution it said was durable."""
    told = dict.fromkeys(names, -1)
    with subprocess.Popen(
        [sys.executable, "-u", "-c", WRITER, url, *names],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for number, line in enumerate(process.stdout or ()):
            if number == lines:
                process.send_signal(signal.SIGKILL)
            if line.endswith("\n"):
                name, seq = line.split()
                told[name] = int(seq)
    assert process.returncode == -signal.SIGKILL
    return told


@pytest.mark.parametrize("lines", [50, 2000])
async def test_a_killed_process_loses_nothing_it_acknowledged(store_url: str, lines: int) -> None:
    """SIGKILL in the middle of the stream: every acknowledged event is there, without a gap."""
    names = [f"e{number}" for number in range(WRITERS)]
    told = _killed(store_url, names, lines)
    async with opened(store_url) as store:
        found = await store.read(checkpoints_of, names)
        for name in names:
            assert [each.seq for each in found[name]] == list(range(len(found[name])))
            assert len(found[name]) > told[name]
        assert sum(told.values()) > lines - WRITERS
        assert await store.read(damage) == []


# ------------------------------------------------------------------------------------ full disks


def large(execution_id: str, seq: int) -> Batch:
    """An event of 20 kB."""
    return Batch(execution_id, [event(seq, payload='{"x":"' + "x" * 20_000 + '"}')])


async def fill(store: Store, execution_id: str) -> tuple[int, Unavailable]:
    """Append until it fails; how many events were acknowledged, and what was said."""
    for seq in range(1000):
        try:
            await store.append(large(execution_id, seq))
        except Unavailable as problem:
            return seq, problem
    pytest.fail("the disk does not get full")


@contextmanager
def small_disk(folder: Path, size: str) -> Generator[Path]:
    """A file system of this size; skips where it cannot be mounted."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_is_unavailable_until_there_is_space(tmp_path: Path) -> None:
    """Whoever appends then is told what is full; nothing acknowledged is lost, and it goes on."""
    with small_disk(tmp_path, "1500k") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(500_000))
        async with opened(f"sqlite:///{disk}/x.db", "e", "f") as store:
            written, problem = await fill(store, "e")
            assert str(problem) == f"disk full: {disk}/x.db cannot grow"
            results = await outcomes(*(store.append(large("f", seq)) for seq in range(5)))
            assert {type(each) for each in results} == {Unavailable}
            assert len(await store.read(checkpoints, "e")) == written > 3

            ballast.unlink()
            for seq in range(written, written + 3):
                await store.append(large("e", seq))
            await store.append(large("f", 0))
            assert len(await store.read(checkpoints, "e")) == written + 3
            assert await store.read(damage) == []


LIMITED = """
import asyncio, resource, sys
from controller.store.ledger_checkpoints import checkpoints
from tests.store.sample import opened
from tests.store.test_durability import fill, large

async def main(url):
    async with opened(url, "e") as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
        written, problem = await fill(store, "e")
        print(problem)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        await store.append(large("e", written))
        print(len(await store.read(checkpoints, "e")) - written)

asyncio.run(main(sys.argv[1]))
"""


def test_a_disk_that_refuses_data_is_unavailable_until_it_takes_it(database: Path) -> None:
    """A limit on the file's size, which an unprivileged test can set and lift again."""
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, f"sqlite:///{database}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    said, more = ran.stdout.splitlines()
    assert str(database) in said
    assert "disk" in said
    assert more == "1"


async def test_a_database_somebody_else_keeps_locked_is_unavailable(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while; it goes on when the other one lets go, and readers never notice."""
    async with opened(f"sqlite:///{database}", "e") as store:
        monkeypatch.setattr("controller.store.connecting.BUSY_SECONDS", 0.05)
        other = sqlite3.connect(database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked by another process"):
            await store.append(batch("e", 0))
        assert await store.read(checkpoints, "e") == []
        other.execute("ROLLBACK")
        other.close()
        await store.append(batch("e", 0))


def test_a_controller_that_hangs_keeps_no_locks(postgres: Postgres) -> None:
    """Stopped in the middle of a transaction: the others wait a little, and it is told then."""
    locked, go = threading.Event(), threading.Event()

    def hang(tx: Transaction) -> None:
        take_lease(tx, "source/s", "hung", now=0, until=1)
        locked.set()
        go.wait()
        take_lease(tx, "source/s", "hung", now=2, until=3)

    async def both(url: str) -> None:
        async with opened(url) as hung, opened(url) as other:
            lost = asyncio.ensure_future(hung.write(hang))
            await asyncio.to_thread(locked.wait)
            try:
                assert await other.write(take_lease, "source/s", "other", now=0, until=9)
            finally:
                go.set()
            with pytest.raises(Unavailable):
                await lost
            assert not await hung.write(take_lease, "source/s", "hung", now=2, until=3)

    with postgres.migrated() as url:
        asyncio.run(both(url))


async def test_two_that_wait_for_each_other_are_both_written(postgres_url: str) -> None:
    """PostgreSQL ends one of the two transactions: it is written again, and nobody is told."""
    begun = {"one": threading.Event(), "two": threading.Event()}

    def crossing(tx: Transaction, here: str, there: str) -> bool:
        take_lease(tx, f"source/{here}", "me", now=0, until=1)
        begun[here].set()
        assert begun[there].wait(30)
        return take_lease(tx, f"source/{there}", "me", now=0, until=1)

    async with opened(postgres_url, "e") as one, opened(postgres_url) as two:
        async with busy(one):
            with_it = one.append(batch("e", 0))
            first = asyncio.ensure_future(one.write(crossing, "one", "two"))
            await asyncio.sleep(0)
        second = two.write(crossing, "two", "one")
        assert tuple(await asyncio.gather(first, second, with_it)) == (True, True, None)
        assert len(await two.read(checkpoints, "e")) == 1
        assert one.unavailable is two.unavailable is None


async def test_a_commit_is_on_the_disk_before_it_is_acknowledged(database: Path) -> None:
    """What only a power cut would show: the log is synchronised at every commit."""

    def pragmas(tx: Transaction) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "query_only")
        return [tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    full = 2
    async with opened(f"sqlite:///{database}") as store:
        assert await store.write(pragmas) == ["wal", full, 1, 5, 0]
        assert await store.read(pragmas) == ["wal", full, 1, 5000, 1]


async def test_another_process_reads_and_writes_the_same_file(database: Path) -> None:
    """The command line beside the controller: both write, each reads what the other wrote."""
    url = f"sqlite:///{database}"
    async with opened(url, "e", "f") as daemon, opened(url) as shell:
        await asyncio.gather(
            *(daemon.append(batch("e", seq)) for seq in range(50)),
            *(shell.append(batch("f", seq)) for seq in range(50)),
        )
        assert len(await daemon.read(checkpoints, "f")) == 50
        assert len(await shell.read(checkpoints, "e")) == 50


async def test_readers_do_not_keep_the_log_from_being_cut_back(database: Path) -> None:
    """Between reads no snapshot stays open: a checkpoint of the write-ahead log is complete."""
    async with opened(f"sqlite:///{database}", "e") as store:
        for seq in range(50):
            await asyncio.gather(
                store.append(large("e", seq)), *(store.read(checkpoints, "e") for _ in range(4))
            )
        with sqlite3.connect(database) as other:
            busy, log, moved = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        other.close()
        assert (busy, log, moved) == (0, 0, 0)
        assert database.with_name("windlass.db-wal").stat().st_size == 0


HOG = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
print("begun", flush=True)
while True:
    database.execute("BEGIN IMMEDIATE")
    time.sleep(0.001)
    database.execute("INSERT INTO audit_log (at, principal, verb, detail) VALUES (1, '', '', '{}')")
    database.execute("COMMIT")
"""


@contextmanager
def hogging(database: Path) -> Generator[None]:
    """Another process that writes without a pause."""
    hog = subprocess.Popen([sys.executable, "-c", HOG, str(database)], stdout=subprocess.PIPE)
    try:
        assert hog.stdout is not None
        assert hog.stdout.readline() == b"begun\n"
        yield
    finally:
        hog.kill()
        hog.communicate()


async def test_one_who_never_pauses_lets_others_write(database: Path) -> None:
    """A command's turn comes between two transactions of a controller that has much to write."""
    async with opened(f"sqlite:///{database}") as store:
        with hogging(database):
            for _ in range(4):
                await store.write(audit, AuditRecord(1, "me", "x", None, {}))
