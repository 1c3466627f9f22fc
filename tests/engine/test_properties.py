"""Whatever the workflow and whatever happens to its steps: what always holds of an execution."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.core.decide import decide, fold, outstanding, relevant
from controller.core.execution import (
    ACTIVE,
    FINAL,
    SETTLED,
    Arm,
    Event,
    EventType,
    ExecutionState,
    Frame,
    Launch,
    Perform,
    Reason,
    Status,
)
from controller.history import event_of
from tests.engine.machine import Machine, flow

KINDS = ("action", "action", "action", "condition", "parallel", "loop", "subflow")


@st.composite
def lists(draw: st.DrawFn, ids: Any, depth: int) -> list[dict[str, Any]]:
    """A list of steps, each depending on some of those above."""
    found: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 3))):
        found.append(draw(steps(ids, [each["id"] for each in found], depth)))
    return found


@st.composite
def steps(draw: st.DrawFn, ids: Any, above: list[str], depth: int) -> dict[str, Any]:
    """One step of any kind, with any way to answer a failure."""
    kind = draw(st.sampled_from(KINDS if depth else ("action",)))
    step: dict[str, Any] = {"id": f"s{next(ids)}", "type": kind}
    if draw(st.booleans()):
        step["depends_on"] = draw(st.lists(st.sampled_from(above), unique=True)) if above else []
    match kind:
        case "action":
            step["action"] = "ok"
            step["idempotent"] = draw(st.booleans())
        case "subflow":
            step["subflow"] = "child"
        case "condition":
            step["condition"] = {
                "expression": draw(st.booleans()),
                "then_steps": draw(lists(ids, depth - 1)),
                "else_steps": draw(st.one_of(st.just([]), lists(ids, depth - 1))),
            }
        case "parallel":
            branches = [draw(lists(ids, depth - 1)) for _ in range(draw(st.integers(1, 3)))]
            step["parallel"] = {"branches": branches, "wait_all": draw(st.booleans())}
            if draw(st.booleans()):
                step["parallel"]["max_parallel"] = draw(st.integers(1, 2))
        case _:
            step["loop"] = {
                "over": list(range(draw(st.integers(0, 3)))),
                "steps": draw(lists(ids, depth - 1)),
                "parallel": draw(st.integers(1, 3)),
            }
    if draw(st.integers(0, 3)) == 0:
        step["when"] = draw(st.booleans())
    return step | draw(limits(kind)) | draw(reactions(above))


@st.composite
def limits(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """How long it may take, counted by the state machine; answers take a millisecond each."""
    limited = kind != "action" and draw(st.integers(0, 3)) == 0
    return {"timeout": draw(st.sampled_from((2, 5, 20)))} if limited else {}


@st.composite
def reactions(draw: st.DrawFn, above: list[str]) -> dict[str, Any]:
    """What a step does when it fails."""
    kinds = ["fail", "continue", "retry", *(["goto"] if above else [])]
    kind = draw(st.sampled_from(kinds))
    found: dict[str, Any] = {"on_error": kind}
    if kind == "retry":
        found["retry"] = {"attempts": draw(st.integers(1, 3)), "delay": 5}
    if kind == "goto":
        found["goto"] = draw(st.sampled_from(above))
    return found


@st.composite
def workflows(draw: st.DrawFn) -> dict[str, Any]:
    """A workflow, perhaps with an error handler."""
    ids = iter(range(1_000))
    document = flow(*draw(lists(ids, 2)))
    if draw(st.booleans()):
        document["error_handler"] = {"id": "handler", "type": "action", "action": "ok"}
    return document


CHOICES = st.lists(st.integers(0, 99), min_size=1, max_size=60)


def drive(document: dict[str, Any], choices: list[int], *, wishes: bool) -> Machine:
    """Execute to the end by choices: which to answer, with what, and what people wish."""
    machine = Machine(document)
    for number in range(3_000):
        if machine.state.status in FINAL:
            return machine
        choice = choices[number % len(choices)] if number < len(choices) else 50
        if wishes and number < len(choices) and choice >= 94:
            _wish(machine, choice)
        elif machine.todo and (choice != 93 or not machine.timers):
            names = list(machine.todo)
            answer: dict[str, Any] = {"error": ("boom", "no")} if choice % 4 == 0 else {}
            machine.answer(names[choice % len(names)], answer)
        elif machine.state.paused_at is not None:
            machine.wish(EventType.RESUME)
        elif not machine.todo and {each[2] for each in machine.timers} <= {"deadline"}:
            raise AssertionError(f"stuck: {machine.statuses()}")
        else:
            machine.fire()
    raise AssertionError("it does not end")


def _wish(machine: Machine, choice: int) -> None:
    match choice:
        case 94 | 95:
            machine.wish(EventType.PAUSE)
        case 96:
            machine.wish(EventType.RESUME)
        case 97:
            machine.wish(EventType.PAUSE, restart=True)
        case _:
            machine.wish(EventType.CANCEL, force=choice == 99)


def picture(state: ExecutionState) -> dict[str, Any]:
    """All that anybody can see of a state."""
    shown: dict[str, Any] = {
        key: (step.status, step.attempt, step.reason, step.outputs, step.error, step.due)
        for key, step in state.steps.items()
    }
    return shown | {"": (state.status, state.error, state.outputs, state.paused_at, state.deadline)}


def frames(state: ExecutionState) -> list[Frame]:
    """Every open list of steps."""
    found, front = [], [state.frame]
    while front:
        frame = front.pop()
        found.append(frame)
        for step in frame.steps.values():
            front += [inner for inner in step.frames.values() if not inner.closed]
    return found


@given(workflows(), CHOICES)
def test_every_execution_ends(document: dict[str, Any], choices: list[int]) -> None:
    """When every call is answered and time passes: it ends, once, with nothing left running."""
    machine = drive(document, choices, wishes=True)
    assert len(machine.finished) == 1
    for key, step in machine.state.steps.items():
        assert step.status in SETTLED or step.frame.closed, key
        assert step.status not in ACTIVE, key


@given(workflows(), CHOICES)
def test_the_fold_is_the_execution(document: dict[str, Any], choices: list[int]) -> None:
    """At every prefix of the events, folding them gives the state that was live then."""
    machine = drive(document, choices, wishes=True)
    live, _ = _begin(machine)
    for number, event in enumerate(machine.events, 1):
        decide(live, event)
        if number % 5 == 0 or number == len(machine.events):
            folded = fold(machine.plan, machine.identity, machine.events[:number])
            assert picture(folded) == picture(live)
    assert picture(live) == picture(machine.state)


def _begin(machine: Machine) -> tuple[ExecutionState, object]:
    return fold(machine.plan, machine.identity, []), None


@given(workflows(), CHOICES)
def test_counts_are_what_a_recount_gives(document: dict[str, Any], choices: list[int]) -> None:
    """`active` and `open` of each list of steps, after every event."""
    machine = drive(document, choices, wishes=True)
    state = fold(machine.plan, machine.identity, [])
    for event in machine.events:
        decide(state, event)
        for frame in frames(state):
            steps_of = frame.steps.values()
            assert frame.active == sum(step.status in ACTIVE for step in steps_of)
            assert frame.open == sum(step.status not in SETTLED for step in steps_of)


@given(workflows(), CHOICES, st.integers(0, 99))
def test_nothing_happens_after_the_end(
    document: dict[str, Any], choices: list[int], number: int
) -> None:
    """Any event after the final one, late or invented, is not relevant and changes nothing."""
    machine = drive(document, choices, wishes=False)
    before = picture(machine.state)
    late = machine.events[number % len(machine.events)] if machine.events else None
    for event in (late, Event(EventType.CANCEL, machine.now, data={"force": True})):
        if event is not None:
            assert not relevant(machine.state, event)
            decide(machine.state, event)
    assert picture(machine.state) == before


@given(workflows(), CHOICES)
def test_no_attempt_is_performed_twice(document: dict[str, Any], choices: list[int]) -> None:
    """(step, attempt) names one call, over retries, gotos, pauses and cancels."""
    machine = drive(document, choices, wishes=True)
    assert len(machine.performed) == len(set(machine.performed))


@given(workflows(), CHOICES)
def test_what_is_outstanding_is_what_was_not_answered(
    document: dict[str, Any], choices: list[int]
) -> None:
    """After a crash at any event, the fold names exactly the calls that have no result."""
    machine = Machine(document)
    for number, choice in enumerate(choices):
        if machine.state.status in FINAL or not machine.todo:
            break
        names = list(machine.todo)
        answer: dict[str, Any] = {"error": ("boom", "no")} if choice % 5 == 0 else {}
        machine.answer(names[number % len(names)], answer)
        if machine.state.status in FINAL:
            break
        folded = fold(machine.plan, machine.identity, machine.events)
        commands = outstanding(folded)
        calls = {
            (each.step, each.attempt) for each in commands if isinstance(each, Perform | Launch)
        }
        waiting = {
            (key, attempt)
            for key, attempt in machine.todo.items()
            if machine.state.steps[key].attempt == attempt
            and machine.state.steps[key].status in ACTIVE
        }
        assert calls == waiting
        retries = {
            each.step for each in commands if isinstance(each, Arm) and each.timer == "retry"
        }
        held = {
            key
            for key, step in machine.state.steps.items()
            if step.status is Status.WAITING and step.reason == "retry"
        }
        assert retries == held


@given(workflows(), CHOICES)
def test_a_retry_does_nothing_again_that_completed(
    document: dict[str, Any], choices: list[int]
) -> None:
    """Nor does it begin by waiting; where all goes well then, it ends."""
    machine = drive(document, choices, wishes=choices[0] % 2 == 0)
    if machine.state.status not in {Status.FAILED, Status.CANCELLED}:
        return
    again = Machine(document)
    again.state = fold(again.plan, again.identity, map(event_of, machine.kept()))
    again.todo, again.timers, again.performed = {}, {}, []
    again.carry_out(outstanding(again.state))
    assert Reason.RETRY not in {step.reason for step in again.state.active_steps()}
    again.finish()
    done = {key for key, step in machine.state.steps.items() if step.status is Status.COMPLETED}
    holding = {key for key in done if machine.state.steps[key].plan.nested}
    assert not (done - holding - {"handler"}) & {key for key, _ in again.performed}
