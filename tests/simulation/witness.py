"""What must hold, whatever happens: looked at after every commit, at every call, and at the end.

The witness reads the database by itself, with nothing of the product, and knows of the processes
only what can be seen from outside: who committed, and who was called. Of the product it uses the
fold alone, to hold what is recorded against it.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.core.content import recompile
from controller.core.decide import fold
from controller.core.execution import Event, EventType, ExecutionState, Identity
from controller.core.policy import policy_from_json
from controller.core.timetable import Timetable
from controller.execute.action import BUILT_IN, Call
from controller.fires import timetable_of
from controller.schedule import GRACE
from controller.store.records import FINAL, ScheduleRecord
from tests.fake_clock import START

if TYPE_CHECKING:
    from controller.core.plan import Plan

_EXECUTIONS = """
SELECT id, workflow_id, workflow_version, digest, status, owner, started_at, inputs, trigger,
  schedule_id, due_at, parent_id, parent_step, policy, completed_at, outputs, error, claims,
  attempt_of
FROM workflow_executions ORDER BY id
"""
_EVENTS = """
SELECT n.number, c.* FROM noted n
JOIN execution_checkpoints c ON c.execution_id = n.execution_id AND c.seq = n.seq
WHERE n.number > ? ORDER BY n.number
"""

Row = dict[str, Any]


class Violation(Exception):
    """An invariant was broken.

    Attributes:
        invariant: Which one, in few words.
    """

    def __init__(self, invariant: str, how: str) -> None:
        super().__init__(f"[{invariant}] {how}")
        self.invariant = invariant


@dataclass
class _Seen:
    """One execution, as it was seen so far."""

    row: Row
    events: list[Row] = field(default_factory=list)
    completed: set[tuple[str, int]] = field(default_factory=set)
    called: Counter[tuple[str, int]] = field(default_factory=Counter)


class Witness:
    """Sees everything of one seed.

    Args:
        say: Takes a line of the history.
        elapsed: Seconds of the world.

    Attributes:
        broken: The first invariant that was broken.
    """

    def __init__(
        self, path: Path, say: Callable[[str], None], elapsed: Callable[[], float]
    ) -> None:
        self.broken: Violation | None = None
        self._say = say
        self._elapsed = elapsed
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._noted = 0
        self._seen: dict[str, _Seen] = {}
        self._schedules: dict[str, Row] = {}
        self._definitions: dict[str, dict[str, Row]] = {}
        self._plans: dict[str, Plan] = {}
        self._acknowledged: list[str] = []

    def close(self) -> None:
        """Look no more."""
        self._database.close()

    def all_ended(self) -> bool:
        """Whether no execution is unfinished."""
        return all(each.row["status"] in FINAL for each in self._seen.values())

    def unfinished(self) -> list[str]:
        """Executions that have not ended."""
        return [name for name, each in self._seen.items() if each.row["status"] not in FINAL]

    def failed(self) -> list[str]:
        """Executions that may be tried again."""
        wanted = {"failed", "cancelled"}
        return [name for name, each in self._seen.items() if each.row["status"] in wanted]

    def acknowledged(self, record: Any) -> None:
        """Somebody was told that an execution was created."""
        if record is not None:
            self._acknowledged.append(record.id)

    # -- calls ------------------------------------------------------------------------------

    def performed(self, who: str, call: Call, url: str, *, beside: bool) -> None:
        """Somebody is called, for a step's attempt; perhaps `beside` an earlier call of it."""
        self._keep(lambda: self._performed(who, call, url, beside=beside))

    def committed(self, who: str) -> None:
        """A transaction of `who` is durable."""
        self._keep(lambda: self._committed(who))

    def _keep(self, look: Callable[[], None]) -> None:
        """What is found out while the product is at work must not be taken for its own failure."""
        try:
            look()
        except Violation as broken:
            self.broken = self.broken or broken

    def _performed(self, who: str, call: Call, url: str, *, beside: bool) -> None:
        what = f"{call.execution}.{call.step}#{call.attempt}"
        self._say(f"{who} calls {what} {url}")
        if beside:
            raise Violation("one try at a time", f"{what} began before an earlier one had ended")
        seen = self._seen.get(call.execution)
        if seen is None:
            raise Violation("record, then act", f"{what} was called before it was recorded")
        version = seen.row["workflow_version"].partition(".")[0]
        if url != f"v{version}":
            raise Violation("pinned", f"{what} is of v{version} and called {url}")
        if seen.row["status"] in FINAL:
            self._late(seen, who, what)
        if seen.row["owner"] != who:
            raise Violation("one owner", f"{who} called {what}, which {seen.row['owner']} has")
        key = (call.step, call.attempt)
        if key in seen.completed:
            raise Violation("completed once", f"{who} called {what}, which is recorded as done")
        step = self._state(seen).steps.get(call.step)
        if step is None or (step.attempt, step.status) != (call.attempt, "running"):
            raise Violation("record, then act", f"{who} called {what}, which nothing asks for")
        self._count(seen, key, who, what)

    def _count(self, seen: _Seen, key: tuple[str, int], who: str, what: str) -> None:
        seen.called[key] += 1
        if seen.called[key] > 1 and not self._idempotent(seen, key[0]):
            raise Violation("never twice", f"{who} called {what} again")

    def _late(self, seen: _Seen, who: str, what: str) -> None:
        raise Violation("nothing after the end", f"{who} called {what}: {seen.row['status']}")

    def _idempotent(self, seen: _Seen, key: str) -> bool:
        step = self._steps(seen.row["digest"]).get(key.rpartition(".")[2])
        return step is None or step.get("idempotent", True)

    def _steps(self, digest: str) -> dict[str, Row]:
        if digest not in self._definitions:
            found: dict[str, Row] = {}
            _collect(self._content(digest)["workflow"], found)
            self._definitions[digest] = found
        return self._definitions[digest]

    def _content(self, digest: str) -> Row:
        query = "SELECT content FROM workflow_versions WHERE digest = ?"
        content: Row = json.loads(self._database.execute(query, [digest]).fetchone()[0])
        return content

    # -- commits ----------------------------------------------------------------------------

    def _committed(self, who: str) -> None:
        rows = {row["id"]: dict(row) for row in self._database.execute(_EXECUTIONS)}
        events = [dict(row) for row in self._database.execute(_EVENTS, [self._noted])]
        before = {name: each.row for name, each in self._seen.items()}
        for event in events:
            self._recorded(who, event, before, rows)
        for name, row in rows.items():
            if name not in before and row["parent_id"] is not None:
                self._first_of_its_step(row, rows)
            seen = self._seen.setdefault(name, _Seen(row))
            self._changed(seen, row)
        for event in events:
            self._take(self._seen[event["execution_id"]], event)
        self._fired(before, rows)
        if len(rows) < len(before):
            raise Violation("nothing lost", f"gone: {sorted(before.keys() - rows.keys())}")

    def _recorded(self, who: str, event: Row, before: dict[str, Row], rows: dict[str, Row]) -> None:
        """A new event is of who has the execution, and it has not ended."""
        name = event["execution_id"]
        self._noted = event["number"]
        step = f"{event['step_id']}#{event['attempt']}" if event["step_id"] else ""
        self._say(f"{who} records {name}/{event['seq']} {event['type']} {step} {event['context']}")
        earlier = before.get(name)
        if earlier is None:
            return
        if earlier["status"] in FINAL:
            raise Violation("nothing after the end", f"{name}: {event['type']}")
        if event["type"] == EventType.BROKEN:
            raise Violation("no bugs", f"{name}: {event['context']}")
        if event["type"] == EventType.TAKEN_OVER:
            if rows[name]["owner"] != who:
                raise Violation("one owner", f"{who} took {name} for {rows[name]['owner']}")
        elif earlier["owner"] != who:
            raise Violation("one owner", f"{who} records {name}, which {earlier['owner']} has")

    def _changed(self, seen: _Seen, row: Row) -> None:
        """What an execution is born with stays, and it ends once."""
        for column in ("digest", "workflow_version", "policy", "inputs", "trigger", "parent_id"):
            if seen.row[column] != row[column]:
                raise Violation("pinned", f"{row['id']}: {column} has changed")
        if seen.row["status"] in FINAL and seen.row != row:
            raise Violation("ends once", f"{row['id']} changed after its end")
        if seen.row["status"] != row["status"]:
            self._say(f"{row['id']} is {row['status']}")
        seen.row = row

    def _first_of_its_step(self, child: Row, rows: dict[str, Row]) -> None:
        """The children of a step's earlier attempts have ended."""
        step = child["parent_id"], child["parent_step"]
        for name, row in rows.items():
            other = name != child["id"] and row["status"] not in FINAL
            if other and (row["parent_id"], row["parent_step"]) == step:
                raise Violation("one try at a time", f"{child['id']} was created beside {name}")

    def _take(self, seen: _Seen, event: Row) -> None:
        if event["seq"] != len(seen.events):
            raise Violation("no gaps", f"{seen.row['id']}: {event['seq']} came too soon")
        seen.events.append(event)
        if event["type"] == EventType.COMPLETED and event["step_id"] is not None:
            key = (event["step_id"], event["attempt"])
            if key in seen.completed:
                raise Violation("completed once", f"{seen.row['id']}.{key} completed again")
            seen.completed.add(key)

    # -- fires ------------------------------------------------------------------------------

    def _fired(self, before: dict[str, Row], rows: dict[str, Row]) -> None:
        """Every due time that counts as dealt with has its execution, or a reason to have none."""
        standing = {
            row["id"]: dict(row)
            for row in self._database.execute("SELECT * FROM workflow_schedules ORDER BY id")
        }
        for name, row in standing.items():
            earlier = self._schedules.get(name)
            if earlier is not None and earlier["last_run_at"] != row["last_run_at"]:
                self._dealt(earlier, row, before, rows)
        self._schedules = standing

    def _dealt(self, earlier: Row, row: Row, before: dict[str, Row], rows: dict[str, Row]) -> None:
        record = _schedule(row)
        table = timetable_of(record, START)
        if table is None or (not row["active"] and row["reason"] != "ended"):
            return
        last = earlier["last_run_at"] or earlier["created_at"]
        due = _due(table, last, row["last_run_at"])
        made = {each["due_at"] for each in rows.values() if each["schedule_id"] == row["id"]}
        busy = any(
            each["schedule_id"] == row["id"] and each["status"] not in FINAL
            for each in before.values()
        )
        policy = record.policy
        catchup = int(policy.get("catchup") or 0)
        lost = []
        for moment in due:
            alone = policy["overlap"] in {"skip", "queue_one"} and (busy or moment != due[0])
            late = row["last_run_at"] - moment >= max(catchup, 0) - GRACE
            late = late if catchup else moment != due[-1]
            if moment not in made and not (alone or late or row["reason"]):
                lost.append(moment)
        if lost:
            raise Violation("each fire once", f"{row['id']} lost its fires of {lost}")

    # -- the end ----------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything has ended."""
        lost = [each for each in self._acknowledged if each not in self._seen]
        if lost:
            raise Violation("nothing lost", f"acknowledged, and not there: {lost}")
        fires = Counter(
            (each.row["schedule_id"], each.row["due_at"])
            for each in self._seen.values()
            if each.row["schedule_id"]
        )
        twice = [each for each, count in fires.items() if count > 1]
        if twice:
            raise Violation("each fire once", f"fired again: {twice}")
        for seen in self._seen.values():
            self._folds(seen)
            self._belongs(seen)
        waiting = "SELECT count(*) FROM signals WHERE consumed_at IS NULL"
        if self._database.execute(waiting).fetchone()[0]:
            raise Violation("signals taken", "a signal waits for an execution that has ended")

    def _folds(self, seen: _Seen) -> None:
        """The row says what its events say."""
        row = seen.row
        if row["started_at"] is None:
            kept = row["attempt_of"] is not None  # a retry is born with events
            if row["status"] != "cancelled" or (seen.events and not kept):
                raise Violation("fold = record", f"{row['id']} never began: {row['status']}")
            return
        state = self._state(seen)
        error = state.error if state.status == "failed" else None
        outputs = state.outputs if state.status == "completed" else None
        told = (str(state.status), outputs, error, state.completed_at)
        recorded = (
            row["status"],
            _json(row["outputs"]),
            _json(row["error"]),
            row["completed_at"],
        )
        if told != recorded:
            raise Violation("fold = record", f"{row['id']}: {told} by its events, row {recorded}")

    def _state(self, seen: _Seen) -> ExecutionState:
        row = seen.row
        policy = policy_from_json(json.loads(row["policy"]))
        if row["digest"] not in self._plans:
            content = self._content(row["digest"])
            self._plans[row["digest"]] = recompile(content, BUILT_IN, policy, row["digest"])
        plan = self._plans[row["digest"]]
        identity = Identity(
            row["id"],
            row["workflow_id"],
            json.loads(row["inputs"]),
            json.loads(row["trigger"]),
            row["started_at"],
        )
        events = (
            Event(
                EventType(each["type"]),
                each["created_at"],
                each["step_id"],
                each["attempt"],
                json.loads(each["context"]),
            )
            for each in seen.events
        )
        return fold(plan, identity, events)

    def _belongs(self, seen: _Seen) -> None:
        """A child has a parent whose step it is, and nobody ends before its children."""
        row = seen.row
        if row["parent_id"] is None:
            return
        parent = self._seen.get(row["parent_id"])
        if parent is None:
            raise Violation("linked", f"{row['id']} has no parent {row['parent_id']}")
        step = self._steps(parent.row["digest"]).get(row["parent_step"].rpartition(".")[2])
        if step is None or step.get("subflow") != row["workflow_id"]:
            raise Violation("linked", f"{row['id']} is no child of {row['parent_step']}")


def _collect(part: Any, found: dict[str, Row]) -> None:
    if isinstance(part, dict):
        if "id" in part and "type" in part:
            found[part["id"]] = part
        for inner in part.values():
            _collect(inner, found)
    elif isinstance(part, list):
        for inner in part:
            _collect(inner, found)


def _schedule(row: Row) -> ScheduleRecord:
    plain = {name: row[name] for name in ScheduleRecord.__dataclass_fields__}
    for name in ("inputs", "metadata", "policy"):
        plain[name] = json.loads(plain[name])
    return ScheduleRecord(**plain)


def _due(table: Timetable, after: int, until: int) -> list[int]:
    found = []
    while (moment := table.next_after(after)) is not None and moment <= until:
        found.append(moment)
        after = moment
    return found


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
