"""Every statement of every verb finds its rows through an index, however many there are."""

import importlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, Table, create_engine, func, insert, select

from controller.app import run_main
from controller.store import doctor, ledger, straight
from controller.store.connecting import parse_url
from controller.store.dialect import is_sqlite
from controller.store.ledger_executions import Place, Prepared
from controller.store.records import AuditRecord, Claimant, LogRecord, Outcome
from controller.store.retention import Keep
from controller.store.tables import (
    Transaction,
    audit_log,
    metadata,
    signals,
    workflow_executions,
    workflow_logs,
)
from tests.growth.grown import SMALL, grow, settings_for
from tests.store.sample import NOW, new, populate, signal
from tests.store.statements import watched

pytestmark = pytest.mark.timeout(600)

GROWING = ("workflow_executions", "execution_checkpoints", "workflow_logs", "signals", "audit_log")
"""The tables whose rows become millions; of the others there are as many as definitions."""

THOUSANDS = 2_000

Ask = Callable[[Transaction], object]
KEEP = Keep(days=1, last=3)
ME = Claimant("me", NOW, 1)


@dataclass(frozen=True, slots=True)
class Known:
    """Some of what is in the database."""

    finished: str
    waiting: str
    parent: str
    schedule: str
    workflow: str = "w0"


def ready(name: str) -> Prepared:
    """An execution that is to be created."""
    return ledger.prepared(new(name))


def _known(tx: Connection) -> Known:
    def first(asked: str) -> str:
        found: str = tx.exec_driver_sql(asked).scalar_one()
        return found

    one = "FROM workflow_executions WHERE"
    return Known(
        first(f"SELECT max(id) {one} status = 'completed'"),
        first(f"SELECT max(id) {one} wake_at IS NOT NULL"),
        first(f"SELECT max(parent_id) {one} parent_id IS NOT NULL"),
        first(f"SELECT max(schedule_id) {one} schedule_id IS NOT NULL"),
    )


def _executions(k: Known) -> dict[str, list[Ask]]:
    """What is asked of executions, each way that somebody asks it."""
    lists = [
        {"workflow": workflow, "status": status, "before": before}
        for workflow in (None, k.workflow)
        for status in (None, "failed", "completed", "running")
        for before in (None, Place(NOW, k.finished))
    ]
    ended = Outcome("completed", completed_at=NOW)
    return {
        "create": [lambda tx: ledger.create(tx, new("e1"))],
        "create_all": [lambda tx: ledger.create_all(tx, [ready("e2"), ready("e3")])],
        "execution": [lambda tx: ledger.execution(tx, k.finished)],
        "executions": [
            *(lambda tx, given=given: ledger.executions(tx, **given) for given in lists),
            lambda tx: ledger.executions(tx, root=k.parent),
        ],
        "executions_like": [lambda tx: ledger.executions_like(tx, k.finished[:8], limit=2)],
        "unfinished_of_schedules": [
            lambda tx: ledger.unfinished_of_schedules(tx, [k.schedule, "another"])
        ],
        "fired": [lambda tx: ledger.fired(tx, k.schedule, [NOW, NOW + 1])],
        "any_going": [lambda tx: ledger.any_going(tx, [k.finished, k.waiting])],
        "children": [lambda tx: ledger.children(tx, k.parent)],
        "status_counts": [
            ledger.status_counts,
            lambda tx: ledger.status_counts(tx, k.workflow),
        ],
        "going": [ledger.going],
        "active": [lambda tx: ledger.active(tx, "k")],
        "cancel_pending": [lambda tx: ledger.cancel_pending(tx, "e1", NOW)],
        "record_outcome": [
            lambda tx: ledger.record_outcome(tx, k.waiting, ended),
            lambda tx: ledger.record_outcome(tx, k.waiting, ended, "me"),
        ],
        "checkpoints": [lambda tx: ledger.checkpoints(tx, k.finished)],
        "checkpoints_of": [lambda tx: ledger.checkpoints_of(tx, [k.finished, k.waiting])],
        "put_checkpoints": [lambda tx: ledger.put_checkpoints(tx, "e3", [])],
        "last_logs": [lambda tx: ledger.last_logs(tx, k.finished, 20)],
        "logs": [
            lambda tx: ledger.logs(tx, k.finished),
            lambda tx: ledger.logs(tx, k.finished, 3, step="two"),
        ],
        "add_logs": [lambda tx: ledger.add_logs(tx, [LogRecord("e3", "info", "x", NOW)])],
        "audit": [lambda tx: ledger.audit(tx, AuditRecord(NOW, "me", "x", None, {}))],
        "audits": [ledger.audits, lambda tx: ledger.audits(tx, before=7)],
        "add_signal": [lambda tx: ledger.add_signal(tx, signal("g", k.waiting))],
        "consume": [lambda tx: ledger.consume(tx, ["g", "h"], NOW)],
        "signals": [lambda tx: ledger.signals(tx, [k.waiting, "other"])],
        "signals_for": [lambda tx: ledger.signals_for(tx, "me")],
    }


def _claims(k: Known) -> dict[str, list[Ask]]:
    claimed: dict[str, Any] = {"lease_until": NOW, "now": NOW * 2, "limit": 50}
    return {
        "claim": [
            lambda tx: ledger.claim(tx, "me", **claimed),
            lambda tx: ledger.claim(tx, "me", **claimed, root=k.waiting),
        ],
        "claimable": [
            lambda tx: ledger.claimable(tx, "me", NOW),
            lambda tx: ledger.claimable(tx, "me", NOW, k.waiting),
        ],
        "create_claimed": [lambda tx: ledger.create_claimed(tx, [ready("e4")], ME, NOW)],
        "give_back": [lambda tx: ledger.give_back(tx, "me", ["e4"])],
        "heartbeat": [lambda tx: ledger.heartbeat(tx, "me", NOW)],
        "holds": [lambda tx: ledger.holds(tx, "me", k.waiting, 1)],
        "release": [
            lambda tx: ledger.release(tx, "me", [k.waiting]),
            lambda tx: ledger.release(tx, "me"),
        ],
        "adopt": [lambda tx: ledger.adopt(tx, "me")],
        "next_wake": [ledger.next_wake],
    }


def _retention(k: Known) -> dict[str, list[Ask]]:
    return {
        "workflows_executed": [ledger.workflows_executed],
        "expired": [lambda tx: ledger.expired(tx, k.workflow, KEEP, NOW * 2)],
        "prune": [lambda tx: ledger.prune(tx, NOW * 2, KEEP, {}, limit=2)],
        "remove": [lambda tx: ledger.remove(tx, [k.parent])],
        "remove_logs": [lambda tx: ledger.remove_logs(tx, NOW * 2, 9)],
        "remove_audits": [lambda tx: ledger.remove_audits(tx, NOW * 2, 9)],
        "remove_versions": [lambda tx: ledger.remove_versions(tx, NOW * 2)],
        "remove_schedules": [lambda tx: ledger.remove_schedules(tx, NOW * 2)],
        "retention_rules": [ledger.retention_rules],
    }


def _doctor(k: Known) -> dict[str, list[Ask]]:
    """What `windlass doctor` asks; only `orphans` reads everything, with --full."""
    ids = [k.finished, k.parent, "e3"]
    return {
        "unfinished_ids": [lambda tx: doctor.unfinished_ids(tx, 2)],
        "newest_ids": [lambda tx: doctor.newest_ids(tx, 2)],
        "newest_creation": [doctor.newest_creation],
        "page_of_ids": [lambda tx: doctor.page_of_ids(tx, k.finished, 2)],
        "event_counts": [lambda tx: doctor.event_counts(tx, ids)],
        "cases": [lambda tx: doctor.cases(tx, ids), lambda tx: doctor.cases(tx, ids, lock=True)],
        "fence": [lambda tx: ledger.fence(tx, [k.waiting], "me", NOW)],
    }


WALKS = {
    ("executions", "ix_executions_created"): "the newest of all: as far as the page goes",
    ("audits", "audit_log"): "the newest of all: as far as the page goes",
    ("status_counts", "ix_executions_status"): "the summary of history: an index only",
    ("workflows_executed", "ix_executions_workflow"): "the first of each workflow",
    ("prune", "ix_executions_workflow"): "the first of each workflow",
    ("prune", "ix_executions_root"): "what is below a root, where PostgreSQL knows it to be little",
    ("expired", "ix_executions_root"): "the same",
    ("claim", "ix_executions_pending"): "holds only what is pending",
    ("claim", "ix_executions_ready"): "holds only what is ready",
    ("claimable", "ix_executions_pending"): "holds only what is pending",
    ("claimable", "ix_executions_ready"): "holds only what is ready",
    ("claim", "ix_executions_wake"): "as far as it is time, and the limit goes",
    ("claimable", "ix_executions_wake"): "the first",
    ("next_wake", "ix_executions_wake"): "the first",
    ("claim", "ix_executions_lease"): "as far as leases have run out, and the limit goes",
    ("claimable", "ix_executions_lease"): "holds only what is owned",
    ("claim", "ix_signals_unconsumed"): "holds only what nobody has taken",
    ("claimable", "ix_signals_unconsumed"): "holds only what nobody has taken",
    ("consume", "ix_signals_unconsumed"): "holds only what nobody has taken",
    ("signals_for", "ix_signals_unconsumed"): "holds only what nobody has taken",
    ("adopt", "ix_executions_owner"): "holds only what is owned",
    ("unfinished_ids", "ix_executions_pending"): "as far as the limit goes, like the next",
    ("unfinished_ids", "ix_executions_ready"): "as far as the limit goes",
    ("unfinished_ids", "ix_executions_owner"): "as far as the limit goes",
    ("unfinished_ids", "ix_executions_lease"): "as far as the limit goes",
    ("unfinished_ids", "ix_executions_wake"): "as far as the limit goes",
    ("unfinished_ids", "ix_signals_unconsumed"): "as far as the limit goes",
    ("newest_ids", "ix_executions_created"): "as far as the limit goes",
    ("newest_creation", "ix_executions_created"): "the last of them",
    ("page_of_ids", "sqlite_autoindex_workflow_executions_1"): "as far as the limit goes",
    ("executions_like", "sqlite_autoindex_workflow_executions_1"): "as far as the limit goes",
    ("remove_audits", "ix_audit_log_at"): "as far as the limit goes",
    ("remove_logs", "ix_logs_timestamp"): "as far as the limit goes",
}
"""Indexes read from one end or from a value on, with why that is little."""

SORTS = {
    "active": "what is going on of one key",
    "children": "those of one execution",
    "claim": "what has an untaken signal",
    "cases": "a page of executions",
    "claimable": "what has an untaken signal",
    "executions": "one tree",
    "prune": "one tree",
    "remove": "one tree",
    "signals": "what nobody has taken",
    "signals_for": "what nobody has taken",
    "unfinished_of_schedules": "what is going on of some schedules",
}
"""Verbs that sort what an index found, with why that is little."""


def _asked(k: Known) -> dict[str, list[Ask]]:
    return _executions(k) | _claims(k) | _retention(k) | _doctor(k)


def _of_definitions(verb: str) -> bool:
    """Whether the verb's module knows none of the tables that grow."""
    module = importlib.import_module(getattr(ledger, verb).__module__)
    named = {each.name for each in vars(module).values() if isinstance(each, Table)}
    return not named & set(GROWING) and module.__name__.startswith("controller.store.ledger_")


def test_every_verb_is_asked() -> None:
    """A new verb is asked here, or its module cannot reach a table that grows."""
    asked = set(_asked(Known("", "", "", "")))
    rest = set(ledger.__all__) - asked
    no_table = {"announce", "count_places", "created", "prepared"}
    named = {"STOPPED"} | no_table
    assert {verb for verb in rest - named if not _of_definitions(verb)} == set()
    assert asked <= set(ledger.__all__) | {each for each in vars(doctor) if each in asked}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def grown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """A connection to a database with thousands of executions."""
    folder = tmp_path_factory.mktemp("grown")
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(request.getfixturevalue("postgres").migrated())
        settings = settings_for(folder, url)
        run_main(grow(settings, SMALL))
        engine = create_engine(parse_url(settings.url))
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        _others(connection)
        yield connection


def _others(tx: Connection) -> None:
    """Thousands of signals that were taken, and of audit entries, so that none is a small table."""
    asked = select(workflow_executions.c.id).limit(THOUSANDS)
    taken = [
        asdict(signal(f"s{number}", each, consumed_at=NOW))
        for number, each in enumerate(tx.scalars(asked))
    ]
    tx.execute(insert(signals), taken)
    audit: dict[str, Any] = {"principal": "me", "verb": "x", "target": None, "detail": {}}
    tx.execute(insert(audit_log), [audit | {"at": NOW + number} for number in range(THOUSANDS)])
    tx.exec_driver_sql("ANALYZE" if not is_sqlite(tx) else "SELECT 1")
    tx.commit()


READS = re.compile(r"\s*(SELECT|UPDATE|DELETE|INSERT|WITH)\b", re.IGNORECASE)


def faults(tx: Connection, verb: str, statements: list[tuple[str, Any]]) -> set[str]:
    """What these statements read without an index, or sort, and is not known to be little."""
    explain = _of_sqlite if is_sqlite(tx) else _of_postgres
    found = set()
    for statement, given in {each[0]: each for each in statements}.values():
        if READS.match(statement):
            walked, plan = explain(tx, verb, statement, given)
            found |= {f"{each}: {statement} → {plan}" for each in walked}
    return found


def _of_sqlite(tx: Connection, verb: str, statement: str, given: Any) -> tuple[set[str], Any]:
    plan = [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)]
    few = {each for each in metadata.tables if each not in GROWING} | {"names", "json_each"}
    found = set()
    for line in plan:
        walked = _walked(line)
        if walked is not None and line.split()[1] not in few and (verb, walked) not in WALKS:
            found.add(line)
        if "AUTOMATIC" in line or ("FOR ORDER BY" in line and verb not in SORTS):
            found.add(line)
        if "FOR GROUP BY" in line or "FOR DISTINCT" in line:
            found.add(line)
    if set(plan) & {"USE TEMP B-TREE FOR ORDER BY"} and not _touches(plan):
        found.clear()
    return found, plan


def _walked(line: str) -> str | None:
    """The index, or the table, of which a line of a plan reads all, or all from a value on.

    Every value there is comes after NULL: `IS NOT NULL` alone is all of an index.
    """
    words = line.split()
    ranged = re.search(r"\(\w+[<>]\?( AND \w+<\?)?\)$", line)
    if words[0] not in {"SCAN", "SEARCH"} or (words[0] == "SEARCH" and not ranged):
        return None
    if line in {"SCAN packed", "SCAN listed"} or "CONSTANT" in words:
        return None  # what it has is in lines of its own
    return words[words.index("INDEX") + 1] if "INDEX" in words else words[1]


def _touches(plan: list[str]) -> bool:
    return any(each in line for line in plan for each in (*GROWING, "other"))


def _of_postgres(tx: Connection, verb: str, statement: str, given: Any) -> tuple[set[str], Any]:
    tx.exec_driver_sql("SET LOCAL enable_seqscan = off")
    explain = f"EXPLAIN (FORMAT JSON) {statement}"
    if "$1" in statement:  # of those that go straight
        [[said]] = straight.rows(tx, explain, given)
    else:
        [[said]] = tx.exec_driver_sql(explain, given).all()
    plan = said if isinstance(said, list) else json.loads(said)
    found = set()
    for node in _nodes(plan[0]["Plan"]):
        index = node.get("Index Name")
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in GROWING:
            found.add(f"Seq Scan on {node['Relation Name']}")
        elif index and _grows(index) and node.get("Index Cond", "NULL)").endswith("NULL)"):
            walked = "audit_log" if index == "audit_log_pkey" else index
            if (verb, walked) not in WALKS:
                found.add(f"all of {index}")
    return found, plan


def _grows(index: str) -> bool:
    return any(
        index == each.name for name in GROWING for each in metadata.tables[name].indexes
    ) or (index.removesuffix("_pkey") in GROWING)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)


def test_every_statement_uses_an_index(grown: Connection) -> None:
    """Whatever a verb asks of a table that grows, on each database."""
    found: set[str] = set()
    asked = 0
    known = _known(grown)
    populate(grown)
    for verb, ways in _asked(known).items():
        with watched(grown) as seen:
            for ask in ways:
                ask(grown)
        asked += len(seen)
        found |= {f"{verb}: {fault}" for fault in faults(grown, verb, seen)}
    grown.rollback()
    assert found == set(), "\n".join(sorted(found))
    assert asked > len(_asked(known))


def test_a_statement_without_an_index_is_found(grown: Connection) -> None:
    """A condition on a column that no index has, and an order that none gives."""
    e = workflow_executions.c
    for lacking in (
        select(e.id).where(e.current_step == "two"),
        select(select(e.id).where(e.started_at.is_not(None), e.current_step == "two").exists()),
        select(e.id).where(e.current_step == "two").order_by(e.created_at).limit(1),
        select(func.count()).select_from(workflow_executions).group_by(e.current_step),
        select(workflow_logs.c.id).where(workflow_logs.c.level == "error"),
    ):
        with watched(grown) as seen:
            grown.execute(lacking)
        assert faults(grown, "another", seen), lacking
    grown.rollback()
