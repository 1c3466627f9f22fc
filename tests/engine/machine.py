"""The state machine by itself: a workflow, an integer clock, and results chosen by the test."""

from collections.abc import Callable, Mapping
from typing import Any

from controller.again import keep_for_retry
from controller.core.compile import compile_plan
from controller.core.decide import begin, decide, relevant
from controller.core.definition import Output, Workflow
from controller.core.document import load_document
from controller.core.execution import (
    FINAL,
    Arm,
    Command,
    Event,
    EventType,
    ExecutionState,
    Finish,
    Identity,
    Launch,
    Perform,
    Stop,
)
from controller.core.plan import Plan, Signature
from controller.core.policy import Policy
from controller.store.records import CheckpointRecord

Answer = Mapping[str, Any]
"""`{}` or `{"outputs": …}` for success, `{"error": (type, message)}`, `{"suspend": {…}}`."""

ACTIONS = {
    "ok": Signature("ok", open_inputs=True),
    "give": Signature("give", outputs=(Output(name="given", type="integer"),), open_inputs=True),
}
CHILD = {"child": Signature("child", outputs=(Output(name="born", type="integer"),))}

STARTED = 1_000_000


def plan_of(document: Mapping[str, Any], **policy: int) -> Plan:
    """The plan of a document without problems."""
    workflow, problems = load_document(dict(document))
    assert isinstance(workflow, Workflow), problems
    plan, found = compile_plan(workflow, ACTIONS, CHILD, Policy(**policy), "digest")
    assert not found, found
    return plan


class Machine:
    """An execution driven by hand.

    Attributes:
        events: What would be recorded, in order.
        performed: (step, attempt) of every action that was called.
        todo: Steps that were called or launched and are not answered.
        timers: Armed timers, by what they are for.
    """

    def __init__(self, document: Mapping[str, Any], inputs: dict[str, Any] | None = None) -> None:
        self.plan = plan_of(document)
        self.identity = Identity("e", self.plan.name, inputs or {}, {"type": "manual"}, STARTED)
        self.now = STARTED
        self.events: list[Event] = []
        self.performed: list[tuple[str, int]] = []
        self.todo: dict[str, int] = {}
        self.stopped: list[tuple[str, int]] = []
        self.timers: dict[tuple[str | None, int, str], int] = {}
        self.finished: list[str] = []
        self.state, decision = begin(self.plan, self.identity)
        self.carry_out(decision.commands)

    def carry_out(self, commands: list[Command]) -> None:
        """Call, launch and arm; what is called is answered by the test."""
        for command in commands:
            match command:
                case Perform(step, attempt) | Launch(step, attempt):
                    self.performed.append((step, attempt))
                    self.todo[step] = attempt
                case Stop(step, attempt, _):
                    self.stopped.append((step, attempt))
                case Arm(step, attempt, timer, due):
                    self.timers[step, attempt, timer] = due
                case Finish(status):
                    self.finished.append(status)

    def send(self, event: Event) -> None:
        """Record and apply an event, if it means anything."""
        if relevant(self.state, event):
            self.events.append(event)
            self.carry_out(decide(self.state, event).commands)

    def answer(self, step: str, answer: Answer | None = None) -> None:
        """Give the result of an action or a child."""
        attempt = self.todo.pop(step)
        given = answer or {}
        self.now += 1
        if "error" in given:
            kind, message = given["error"]
            data: dict[str, Any] = {"type": kind, "message": message}
            self.send(Event(EventType.FAILED, self.now, step, attempt, data))
        elif "suspend" in given:
            data = {"until": None, "signal": None, "approval": False, "outputs": {}}
            data |= given["suspend"]
            self.send(Event(EventType.SUSPENDED, self.now, step, attempt, data))
        else:
            data = {"outputs": given.get("outputs", {})}
            self.send(Event(EventType.COMPLETED, self.now, step, attempt, data))

    def fire(self) -> bool:
        """Let the next timer come due; False: there is none."""
        if not self.timers:
            return False
        key = min(self.timers, key=lambda each: (self.timers[each], str(each)))
        self.now = max(self.now, self.timers.pop(key))
        step, attempt, timer = key
        self.send(Event(EventType.DUE, self.now, step, attempt, {"timer": timer}))
        return True

    def wish(self, kind: EventType, **data: Any) -> None:
        """A person's wish, or a signal."""
        self.now += 1
        self.send(Event(kind, self.now, data=data))

    def finish(
        self, choose: Callable[[str, int], Answer] = lambda _step, _attempt: {}
    ) -> "Machine":
        """Answer everything, oldest first, and let time pass, until the execution ends."""
        for _ in range(20_000):
            if self.state.status in FINAL:
                return self
            if self.todo:
                step = next(iter(self.todo))
                self.answer(step, choose(step, self.todo[step]))
            elif not self.fire():
                raise AssertionError(f"stuck: {self.statuses()}")
        raise AssertionError("it does not end")

    def kept(self, from_step: str | None = None) -> list[CheckpointRecord]:
        """What a retry of it begins with."""
        rows = [
            CheckpointRecord(
                "e", seq, str(event.type), event.step, event.attempt, {**event.data}, event.at
            )
            for seq, event in enumerate(self.events)
        ]
        return keep_for_retry(self.plan, self.identity, rows, from_step)

    def statuses(self) -> dict[str, str]:
        """Steps by key."""
        return snapshot(self.state)


def snapshot(state: ExecutionState) -> dict[str, str]:
    """Statuses of all steps that were met."""
    return {key: str(step.status) for key, step in state.steps.items()}


def act(step_id: str, action: str = "ok", **more: Any) -> dict[str, Any]:
    """A step that calls an action."""
    return {"id": step_id, "type": "action", "action": action, **more}


def flow(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A workflow of some steps."""
    return {"name": "w", "steps": list(steps), **more}


FAIL = {"error": ("boom", "it went wrong")}
CANCELLED: Answer = {"error": ("cancelled", "stopped")}
