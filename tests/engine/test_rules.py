"""The rules of LANGUAGE, "Steps", one by one, on the state machine alone."""

from dataclasses import replace
from typing import Any

import pytest

from controller.core.decide import decide, fold, outstanding, relevant
from controller.core.execution import Arm, Event, EventType, Launch, Reason, Stop
from controller.history import wake_of
from controller.store.records import NEVER
from tests.engine.machine import CANCELLED, FAIL, STARTED, Answer, Machine, act, flow


def only(step: str, answer: dict[str, object], times: int = 10**6) -> object:
    """An answer for one step, so many times; all else succeeds."""
    left = {"n": times}

    def choose(key: str, _attempt: int) -> dict[str, object]:
        if key == step and left["n"] > 0:
            left["n"] -= 1
            return answer
        return {}

    return choose


def test_a_plain_list_goes_top_to_bottom() -> None:
    """Without `depends_on`, each step waits for the one above."""
    machine = Machine(flow(act("a"), act("b"), act("c"))).finish()
    assert machine.performed == [("a", 1), ("b", 1), ("c", 1)]


def test_depends_on_makes_a_graph() -> None:
    """`[]` starts at once; a step with two dependencies waits for both."""
    machine = Machine(flow(act("a"), act("b", depends_on=[]), act("c", depends_on=["a", "b"])))
    assert list(machine.todo) == ["a", "b"]
    machine.answer("b")
    assert "c" not in machine.todo
    machine.answer("a")
    assert list(machine.todo) == ["c"]


def test_a_false_when_skips_the_step_alone() -> None:
    """What depends on it still runs, and its variables are null."""
    machine = Machine(
        flow(act("a", "give", when=False), act("b", inputs={"x": "${given}"}), act("c"))
    ).finish()
    assert machine.statuses() == {"a": "skipped", "b": "completed", "c": "completed"}
    assert machine.state.steps["a"].reason == "when-false"


def test_fail_lets_what_runs_finish_and_starts_nothing() -> None:
    """The step beside the failed one finishes; what has not started is skipped, with the reason."""
    machine = Machine(flow(act("a"), act("b", depends_on=[]), act("c", depends_on=["b"]), act("d")))
    machine.answer("a", FAIL)
    assert machine.state.status == "running"
    machine.answer("b")
    assert machine.state.status == "failed"
    assert machine.statuses() == {"a": "failed", "b": "completed", "c": "skipped", "d": "skipped"}
    assert machine.state.steps["c"].reason == "failed-before"


def test_continue_goes_on() -> None:
    """The step is failed, the execution completes."""
    machine = Machine(flow(act("a", on_error="continue"), act("b"))).finish(only("a", FAIL))  # type: ignore[arg-type]  # a chooser
    assert machine.statuses() == {"a": "failed", "b": "completed"}
    assert machine.state.status == "completed"


def test_retry_counts_all_tries_and_waits_between() -> None:
    """Three attempts, exponential: delays of 10 and 20; then it fails."""
    retry = {"attempts": 3, "delay": 10, "backoff": "exponential"}
    machine = Machine(flow(act("a", on_error="retry", retry=retry)))
    for attempt, wait in ((1, 10), (2, 20)):
        machine.answer("a", FAIL)
        assert machine.state.steps["a"].due == machine.now + wait
        machine.fire()
        assert machine.todo == {"a": attempt + 1}
    machine.answer("a", FAIL)
    assert machine.state.status == "failed"


def test_retry_on_names_the_types_worth_it() -> None:
    """An error of another type is not tried again."""
    retry = {"attempts": 5, "delay": 1, "on": ["timeout"]}
    machine = Machine(flow(act("a", on_error="retry", retry=retry)))
    machine.answer("a", FAIL)
    assert machine.state.status == "failed"


def test_goto_forward_skips_what_is_between() -> None:
    """Unstarted steps that are neither the target nor below it are skipped."""
    machine = Machine(
        flow(act("a", on_error="goto", goto="d"), act("b"), act("c"), act("d"), act("e"))
    ).finish(only("a", FAIL))  # type: ignore[arg-type]  # a chooser
    assert machine.statuses() == {
        "a": "failed",
        "b": "skipped",
        "c": "skipped",
        "d": "completed",
        "e": "completed",
    }
    assert machine.state.steps["b"].reason == "goto"


def test_goto_backward_does_it_again_so_often() -> None:
    """The target and all below it run again; after max_gotos the execution fails."""
    steps = (act("a"), act("b", on_error="goto", goto="a"), act("c"))
    machine = Machine(flow(*steps)).finish(only("b", FAIL, 2))  # type: ignore[arg-type]  # a chooser
    assert [step for step, _ in machine.performed] == ["a", "b", "a", "b", "a", "b", "c"]
    assert machine.state.status == "completed"
    machine = Machine(flow(*steps)).finish(only("b", FAIL))  # type: ignore[arg-type]  # a chooser
    assert machine.state.error is not None
    assert machine.state.error["type"] == "goto_limit"
    message = "went to step a 100 times, and failed again: boom: it went wrong"
    assert machine.state.error["message"] == message


def _branch(*steps: dict[str, Any], when: str) -> dict[str, Any]:
    """A condition that takes its branch where the expression holds."""
    body = {"expression": f"${{{when}}}", "then_steps": list(steps), "else_steps": []}
    return {"id": "c", "type": "condition", "condition": body}


def test_going_back_forgets_what_a_branch_made() -> None:
    """Not taken this time, its step has no status, its variables are null, its outputs too."""
    branch = _branch(act("g", "give"), when="steps.a.attempt == 1")
    steps = act("a"), branch, act("b", on_error="goto", goto="a", inputs={"x": "${given}"})
    machine = Machine(flow(*steps, outputs=[{"name": "o", "source": "g.given"}]))
    machine.answer("a")
    machine.answer("g", {"outputs": {"given": 7}})
    assert machine.state.frame.scope.names == {"given": 7}
    machine.answer("b", FAIL)
    machine.answer("a")
    assert machine.statuses() == {
        "a": "completed",
        "c": "completed",
        "g": "pending",
        "b": "running",
    }
    assert "given" not in machine.state.frame.scope.names
    machine.answer("b")
    assert machine.state.outputs == {"o": None}


def test_going_back_forgets_what_is_left_out_this_time() -> None:
    """Containers that are skipped, also in a loop's iteration."""
    first = "steps.a.attempt == 1"
    held = {"type": "parallel", "when": f"${{{first}}}"}
    inner = held | {"id": "q", "parallel": {"branches": [[act("g")]]}}
    loop = {"id": "l", "type": "loop", "loop": {"over": [1], "steps": [inner]}}
    outer = held | {"id": "p", "parallel": {"branches": [[act("h", "give")]]}}
    steps = act("a"), loop, outer
    machine = Machine(flow(*steps, act("b", on_error="goto", goto="a")))
    for step in ("a", "l[0].g", "h"):
        machine.answer(step, {"outputs": {"given": 7}})
    machine.answer("b", FAIL)
    assert machine.state.frame.scope.names.get("given") is None
    machine.finish()
    assert machine.statuses() == {
        "a": "completed",
        "l": "completed",
        "l[0].q": "skipped",
        "l[0].g": "pending",
        "p": "skipped",
        "h": "pending",
        "b": "completed",
    }
    assert (machine.state.steps["l[0].g"].attempt, machine.state.steps["h"].outputs) == (1, None)


def test_a_container_begins_again_with_what_was_made_before_it() -> None:
    """Retried, or gone back to: a variable that a step inside made, too, is the earlier one's."""
    race = {"branches": [[act("won")], [act("lost", "give")]], "wait_all": False}
    before = (
        act("a", "give"),
        {"id": "r", "type": "parallel", "parallel": race},
        act("x", outputs=["other"]),
        act("y", outputs=["other"], when=False),
    )
    loop = {
        "id": "l",
        "type": "loop",
        "loop": {"over": [1], "steps": [_branch(act("i"), when="n")]},
    }
    inner = act("g", "give", inputs={"x": "${given}"}), act("o", outputs=["other"]), act("f")
    body = {"branches": [[*inner], [loop]]}
    for more in ({"retry": {"attempts": 2, "delay": 1}}, {"on_error": "goto", "goto": "p"}):
        step = {"id": "p", "type": "parallel", "parallel": body, **more}
        inputs = [{"name": "n", "type": "boolean"}]
        around = {"id": "around", "type": "parallel", "parallel": {"branches": [[step]]}}
        machine = Machine(flow(*before, around, inputs=inputs), {"n": True})
        machine.answer("a", {"outputs": {"given": 1}})
        for done in ("won", "x", "l[0].i"):
            machine.answer(done)
        for done in ("g", "o"):
            machine.answer(done, {"outputs": {"given": 2, "other": 2}})
        machine.answer("f", FAIL)
        while "g" not in machine.todo:
            machine.fire()
        assert machine.state.frame.scope.names == {"given": 1, "other": None}
        assert machine.statuses()["l[0].c"] == "running"
        assert (machine.todo["g"], machine.todo["l[0].i"]) == (2, 2)


def test_what_a_pause_held_in_a_list_that_was_left_does_not_begin() -> None:
    """Its neighbour goes back to before the container: resumed, the container begins first."""
    body = {"branches": [[act("g")], [act("h")]], "max_parallel": 1}
    step = {"id": "p", "type": "parallel", "parallel": body}
    back = act("b", depends_on=["a"], on_error="goto", goto="a")
    machine = Machine(flow(act("a"), step, back))
    machine.answer("a")
    machine.wish(EventType.PAUSE)
    machine.answer("g")
    machine.answer("b", FAIL)
    machine.wish(EventType.RESUME)
    assert machine.todo == {"a": 2}
    machine.finish()
    assert [step for step, _ in machine.performed].count("h") == 1


def test_the_error_handler_runs_once() -> None:
    """After the failure and before the end; its own failure is told beside the first."""
    handler = act("h", inputs={"what": "${error.type}"})
    machine = Machine(flow(act("a"), error_handler=handler))
    machine.answer("a", FAIL)
    assert machine.todo == {"h": 1}
    machine.answer("h", {"error": ("worse", "again")})
    assert machine.finished == ["failed"]
    assert machine.state.error is not None
    assert (machine.state.error["type"], machine.state.error["handler"]["type"]) == (
        "boom",
        "worse",
    )


def test_a_condition_takes_one_branch() -> None:
    """The other branch is not met at all; both kinds of empty branches complete."""
    body = {"expression": "${n > 1}", "then_steps": [act("t")], "else_steps": []}
    inputs = [{"name": "n", "type": "integer"}]
    document = flow({"id": "c", "type": "condition", "condition": body}, act("z"), inputs=inputs)
    assert Machine(document, {"n": 2}).finish().statuses() == {
        "c": "completed",
        "t": "completed",
        "z": "completed",
    }
    assert "t" not in Machine(document, {"n": 1}).finish().statuses()


def test_parallel_waits_for_all_or_takes_the_first() -> None:
    """`wait_all: false`: the first branch to complete wins, the others are stopped."""
    branches = [[act("a1"), act("a2")], [act("b1")]]
    wait = {"id": "p", "type": "parallel", "parallel": {"branches": branches}}
    machine = Machine(flow(wait, act("z")))
    assert list(machine.todo) == ["a1", "b1"]
    machine.answer("b1")
    assert "z" not in machine.todo
    race = {"id": "p", "type": "parallel", "parallel": {"branches": branches, "wait_all": False}}
    machine = Machine(flow(race, act("z")))
    machine.answer("b1")
    assert machine.stopped == [("a1", 1)]
    assert "z" in machine.todo
    assert machine.statuses()["a1"] == "cancelled"


def test_a_race_fails_when_all_branches_did() -> None:
    """One failed branch leaves the others their chance."""
    race = {
        "id": "p",
        "type": "parallel",
        "parallel": {"branches": [[act("a")], [act("b")]], "wait_all": False},
    }
    machine = Machine(flow(race))
    machine.answer("a", FAIL)
    assert machine.state.status == "running"
    machine.answer("b", FAIL)
    assert machine.state.status == "failed"


def test_max_parallel_bounds_the_branches() -> None:
    """With 1, the second branch begins when the first has ended."""
    body = {"branches": [[act("a")], [act("b")]], "max_parallel": 1}
    machine = Machine(flow({"id": "p", "type": "parallel", "parallel": body}))
    assert list(machine.todo) == ["a"]
    machine.answer("a")
    assert list(machine.todo) == ["b"]


def test_a_loop_gives_lists() -> None:
    """Items one after another, index and item visible, outputs as a list in order."""
    body = {"over": [5, 6], "as": "n", "steps": [act("s", "give", inputs={"v": "${n + n_index}"})]}
    machine = Machine(flow({"id": "l", "type": "loop", "loop": body, "outputs": ["given"]}))
    assert list(machine.todo) == ["l[0].s"]
    machine.answer("l[0].s", {"outputs": {"given": 1}})
    machine.answer("l[1].s", {"outputs": {"given": 2}})
    assert machine.state.frame.scope.names["given"] == [1, 2]


def test_a_loop_gives_null_where_the_branch_was_not_taken() -> None:
    """The last step's result is meant only where no step of the body makes the name."""
    inner = {"id": "in", "type": "loop", "loop": {"over": [1], "steps": [act("s", "give")]}}
    body = {"over": [1, 2], "as": "n", "steps": [_branch(act("g", "give"), when="n == 2"), inner]}
    loop = {"id": "l", "type": "loop", "loop": body, "outputs": ["given"]}
    machine = Machine(flow(loop))
    for step in ("l[0].in[0].s", "l[1].g", "l[1].in[0].s"):
        machine.answer(step, {"outputs": {"given": 7}})
    assert machine.state.frame.scope.names == {"given": [None, 7]}
    body = {"over": [1], "steps": [inner, act("z", "ok")]}
    machine = Machine(flow(loop | {"loop": body, "outputs": ["given"]}))
    machine.answer("l[0].in[0].s", {"outputs": {"given": 7}})
    machine.answer("l[0].z", {"outputs": {"all": 1}})
    assert machine.state.frame.scope.names == {"given": [{"all": 1}]}


def test_too_many_items_fail_before_the_first() -> None:
    """`max_iterations` is a bound, not a cut."""
    body = {"over": [1, 2, 3], "max_iterations": 2, "steps": [act("s")]}
    machine = Machine(flow({"id": "l", "type": "loop", "loop": body}))
    assert machine.performed == []
    assert machine.state.failure is not None
    assert machine.state.failure["type"] == "max_iterations"


@pytest.mark.parametrize(("value", "kind"), [("x", "a string"), (None, "null"), (3, "a number")])
def test_a_loop_over_no_list_fails(value: Any, kind: str) -> None:
    """It says what it was given, in the language's words."""
    machine = Machine(
        flow(
            {"id": "l", "type": "loop", "loop": {"over": "${x.y}", "steps": [act("a")]}},
            inputs=[{"name": "x", "type": "object"}],
        ),
        {"x": {"y": value}},
    )
    message = f"over: a list or an object is needed, and this is {kind}"
    assert machine.state.error == {"step": "l", "type": "expression", "message": message}


def test_while_looks_after_each_iteration() -> None:
    """It goes on as long as the condition holds on what the iteration made."""
    body = {"while": "${given < 3}", "steps": [act("s", "give")]}
    machine = Machine(flow({"id": "l", "type": "loop", "loop": body}))
    for number in (1, 2, 3):
        machine.answer(f"l[{number - 1}].s", {"outputs": {"given": number}})
    assert machine.state.status == "completed"
    assert len(machine.performed) == 3


def test_a_container_may_answer_a_failure_inside_it() -> None:
    """`on_error: continue` on a loop: the failure stops the loop and not the execution."""
    body = {"over": [1, 2], "steps": [act("s")]}
    loop = {"id": "l", "type": "loop", "loop": body, "on_error": "continue"}
    machine = Machine(flow(loop, act("z")))
    machine.answer("l[0].s", FAIL)
    assert list(machine.todo) == ["z"]
    assert machine.statuses()["l"] == "failed"


def test_a_container_is_retried_as_a_whole() -> None:
    """Its steps run again, with attempts that go on counting."""
    body = {"branches": [[act("a"), act("b")]]}
    retry = {"attempts": 2, "delay": 1}
    step = {"id": "p", "type": "parallel", "parallel": body, "on_error": "retry", "retry": retry}
    machine = Machine(flow(step)).finish(only("b", FAIL, 1))  # type: ignore[arg-type]  # a chooser
    assert machine.performed == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert machine.state.status == "completed"


def test_the_deadline_ends_an_execution() -> None:
    """What runs is stopped, the execution fails with type `timeout`, the handler still runs."""
    machine = Machine(flow(act("a"), timeout=100, error_handler=act("h")))
    machine.fire()
    assert machine.stopped == [("a", 1)]
    machine.answer("a", {"error": ("cancelled", "stopped")})
    assert machine.todo == {"h": 1}
    machine.answer("h")
    assert machine.state.error is not None
    assert machine.state.error["type"] == "timeout"


def test_a_failure_does_not_stop_the_clock() -> None:
    """What still runs is stopped in time, then the error handler; the first failure is told."""
    handler = act("h")
    machine = Machine(flow(act("a"), act("b", depends_on=[]), timeout=1_000, error_handler=handler))
    machine.answer("a", FAIL)
    machine.fire()
    assert machine.stopped == [("b", 1)]
    count = len(machine.events)
    machine.send(Event(EventType.DUE, machine.now, None, 0, {"timer": "deadline"}))
    assert len(machine.events) == count, "it is late once"
    machine.answer("b", FAIL)
    assert machine.todo == {"h": 1}
    machine.fire()
    assert machine.stopped == [("b", 1), ("h", 1)]
    machine.answer("h", FAIL)
    assert machine.finished == ["failed"]
    assert machine.state.error is not None
    assert (machine.state.error["type"], machine.state.error["handler"]["type"]) == (
        "boom",
        "timeout",
    )


@pytest.mark.parametrize(
    "step",
    [
        act("s", timeout=20),
        {"id": "c", "type": "subflow", "subflow": "child", "timeout": 20},
        {"id": "l", "type": "loop", "loop": {"over": [1], "steps": [act("s")]}, "timeout": 20},
        {"id": "p", "type": "parallel", "parallel": {"branches": [[act("s")]]}, "timeout": 20},
    ],
)
def test_what_waits_is_looked_at_when_it_has_taken_too_long(step: dict[str, Any]) -> None:
    """Whatever kind of step has the timeout, and whether it waits itself or what it holds does."""
    machine = Machine(flow(step, timeout=1_000))
    for waiting in [each for each in machine.todo if each.endswith("s")]:
        machine.answer(waiting, {"suspend": {"signal": "go"}})
    assert wake_of(machine.state) == STARTED + 20
    machine.fire()
    for stopped, _ in machine.stopped:
        machine.answer(stopped, CANCELLED)
    assert machine.finished == ["failed"]
    assert machine.state.failure is not None
    assert machine.state.failure["type"] == "timeout"


RETRIED = {"timeout": 20, "retry": {"attempts": 2, "delay": 1}}


@pytest.mark.parametrize(
    "step",
    [
        {"type": "subflow", "subflow": "child"},
        {"type": "loop", "loop": {"over": [1], "steps": [act("s"), act("z")]}},
        {
            "type": "condition",
            "condition": {"expression": True, "then_steps": [act("s"), act("z")]},
        },
        {"type": "parallel", "parallel": {"branches": [[act("s"), act("z")], [act("y")]]}},
    ],
)
@pytest.mark.parametrize("late", [FAIL, CANCELLED, {}])
def test_who_is_late_fails_when_what_runs_has_ended(step: dict[str, Any], late: Answer) -> None:
    """It is told to end, and nothing follows before it has: no next try, no step below."""
    machine = Machine(flow({"id": "l", **step, **RETRIED}, act("n")))
    machine.fire()
    assert machine.finished == []
    running = list(machine.todo)
    assert [name for name, _ in machine.stopped] == running
    assert machine.state.steps["l"].reason is not Reason.RETRY
    for name in running:
        assert machine.todo.keys() <= set(running)
        machine.answer(name, late)
    if step["type"] == "subflow" and not late:
        assert list(machine.todo) == ["n"]
        return
    told = machine.state.steps["l"]
    assert (told.reason, told.error and told.error["type"]) == (Reason.RETRY, "timeout")
    assert "z" not in {name.rpartition(".")[2] for name, _ in machine.performed}
    machine.fire()
    assert machine.state.steps["l"].attempt == 2
    assert list(machine.todo) == running


def test_who_has_failed_and_is_late_says_why_it_failed() -> None:
    """What still runs beside a failure is ended in time, and the failure stays the first one."""
    body = {"branches": [[act("a")], [act("b")]]}
    machine = Machine(flow({"id": "p", "type": "parallel", "parallel": body, "timeout": 20}))
    machine.answer("a", FAIL)
    machine.fire()
    assert machine.stopped == [("b", 1)]
    machine.answer("b", CANCELLED)
    assert machine.finished == ["failed"]
    assert machine.state.error is not None
    assert (machine.state.error["step"], machine.state.error["type"]) == ("a", "boom")


def test_who_is_late_or_cancelled_is_not_looked_at_for_that_again() -> None:
    """It waits for a child that ends in its own time: only the child wakes it."""
    for kind in (EventType.DUE, EventType.CANCEL):
        machine = Machine(flow({"id": "c", "type": "subflow", "subflow": "child"}, timeout=20))
        assert wake_of(machine.state) == STARTED + 20
        machine.now += 20
        machine.send(Event(kind, machine.now, data={"timer": "deadline"}))
        assert machine.statuses() == {"c": "waiting"}
        assert wake_of(machine.state) == NEVER


def test_what_a_retry_keeps_counts_from_its_beginning() -> None:
    """Neither a container's timeout nor a delay has run out before; its events keep their times."""
    body = {"branches": [[act("b")]]}
    retry = {"attempts": 3, "delay": 50}
    steps = act("a"), {"id": "p", "type": "parallel", "parallel": body, "timeout": 20}
    machine = Machine(flow(*steps, act("c", depends_on=[], retry=retry), timeout=1_000))
    machine.answer("a")
    machine.answer("c", FAIL)
    later = STARTED + 100_000
    trigger = {"type": "manual", "retry_of": "e"}
    again = fold(machine.plan, replace(machine.identity, started_at=later, trigger=trigger), [])
    for event in machine.events:
        decide(again, event)
    folded = fold(machine.plan, again.identity, machine.events)
    for state in (again, folded):
        assert {each.started_at for each in state.steps.values()} == {later}
        timers = [each for each in outstanding(state) if isinstance(each, Arm)]
        assert {(each.step, each.due - later) for each in timers} == {
            (None, 1_000),
            ("p", 20),
            ("c", 50),
        }


@pytest.mark.parametrize("early", [False, True], ids=["while they wait", "before"])
def test_a_retry_keeps_the_signals_of_what_it_keeps(early: bool) -> None:  # ruff: ignore[boolean-type-hint-positional-argument]  # pytest gives it
    """One that a step took which is done again, or took before that was done again, is not kept."""
    machine = Machine(flow(act("a"), act("back", on_error="goto", goto="a"), act("b"), act("c")))

    def wait(step: str) -> None:
        machine.answer(step, {"suspend": {"signal": "go"}})

    def say(*words: str) -> None:
        for word in words:
            machine.wish(EventType.SIGNAL, name="go", payload=word)

    say(*(("1", "2", "3") if early else ()))
    for word, step in (("1", "a"), ("2", "a"), ("3", "b")):
        wait(step)
        say(*(() if early else (word,)))
        if step == "a":
            machine.answer("back", {"error": ("no", "no")} if word == "1" else {})
    machine.answer("c", {"error": ("no", "no")})
    signals = {
        start: [row.context["payload"] for row in machine.kept(start) if row.type == "signal"]
        for start in ("c", "b", "back", "a")
    }
    assert signals == {"c": ["2", "3"], "b": ["2"], "back": ["2"], "a": []}


TWICE = {"attempts": 2, "delay": 5}


def test_a_retry_keeps_what_was_given_up_only_with_the_reason() -> None:
    """A step that would have been tried again fails with what failed beside it, or is done anew."""
    beside = {"branches": [[act("x", retry=TWICE)], [act("y")]]}
    may = {"id": "may", "type": "parallel", "parallel": beside, "on_error": "continue"}
    machine = Machine(flow(may, act("mail"), act("last")))
    for step in ("x", "y", "mail", "last"):
        machine.answer(step, {} if step == "mail" else FAIL)
    assert [row.step_id for row in machine.kept()] == ["x", "y", "mail"]

    inner: dict[str, Any] = {"id": "may", "type": "loop", "on_error": "continue"}
    inner |= {"loop": {"over": [1], "steps": [act("x", retry=TWICE)]}}
    branch = [act("y"), inner | {"depends_on": []}]
    machine = Machine(flow({"id": "all", "type": "parallel", "parallel": {"branches": [branch]}}))
    machine.answer("y", FAIL)
    machine.answer("may[0].x", FAIL)
    assert (machine.state.status, machine.kept()) == ("failed", [])


def test_a_retry_repeats_a_goto_that_was_not_gone() -> None:
    """Its step failed while nothing new might start; now it may complete."""
    back = act("back", depends_on=["a"], on_error="goto", goto="a")
    machine = Machine(flow(act("a"), act("b", depends_on=["a"]), back))
    for step in ("a", "b", "back"):
        machine.answer(step, {} if step == "a" else FAIL)
    assert [row.step_id for row in machine.kept()] == ["a"]


def test_a_cancel_waits_for_what_runs() -> None:
    """Graceful: asked to stop, then `cancelled` when it has; nothing new starts."""
    machine = Machine(flow(act("a"), act("b")))
    machine.wish(EventType.CANCEL, force=False)
    assert machine.stopped == [("a", 1)]
    assert machine.state.status == "running"
    machine.answer("a")
    assert machine.finished == ["cancelled"]
    assert machine.statuses() == {"a": "completed", "b": "skipped"}


def test_a_forced_cancel_waits_for_nothing() -> None:
    """The execution has ended at once."""
    machine = Machine(flow(act("a"), act("b")))
    machine.wish(EventType.CANCEL, force=True)
    assert machine.finished == ["cancelled"]


def test_a_bug_ends_it_where_it_stands() -> None:
    """What runs is asked to stop and not waited for; nothing is begun, no error handler either."""
    machine = Machine(flow(act("a"), act("b"), error_handler=act("h")))
    machine.wish(EventType.BROKEN, message="TypeError: x")
    assert (machine.finished, machine.stopped) == (["failed"], [("a", 1)])
    assert machine.statuses() == {"a": "cancelled", "b": "skipped"}
    assert machine.state.error == {"step": None, "type": "bug", "message": "TypeError: x"}
    assert machine.performed == [("a", 1)]


def test_a_pause_holds_what_would_start() -> None:
    """What runs finishes; what follows starts on resume; the deadline moves by the pause."""
    machine = Machine(flow(act("a"), act("b"), timeout=1_000))
    before = machine.state.deadline
    machine.wish(EventType.PAUSE)
    machine.answer("a")
    assert (machine.state.status, machine.todo) == ("paused", {})
    machine.now += 500
    machine.wish(EventType.RESUME)
    assert machine.todo == {"b": 1}
    assert machine.state.deadline >= before + 500


def test_a_retry_that_comes_due_in_a_pause_is_held_once() -> None:
    """However often its timer is armed again meanwhile: it starts once, and burns no try."""
    call = {"id": "s", "type": "subflow", "subflow": "child", "retry": {"attempts": 3, "delay": 10}}
    machine = Machine(flow(call))
    machine.answer("s", FAIL)
    machine.wish(EventType.PAUSE)
    for _ in range(2):
        machine.now += 100
        machine.send(Event(EventType.DUE, machine.now, "s", 1, {"timer": "retry"}))
        folded = fold(machine.plan, machine.identity, machine.events)
        assert {each.timer for each in outstanding(folded) if isinstance(each, Arm)} == {"deadline"}
    machine.wish(EventType.RESUME)
    assert machine.performed == [("s", 1), ("s", 2)]
    assert [each.type for each in machine.events].count(EventType.DUE) == 1


def test_a_container_whose_retry_a_pause_holds_is_cancelled() -> None:
    """It came due in the pause, and does not come due again."""
    body = {"over": [1], "steps": [act("b")]}
    loop = {"id": "l", "type": "loop", "loop": body, "retry": {"attempts": 3, "delay": 10}}
    machine = Machine(flow(loop))
    machine.answer("l[0].b", FAIL)
    machine.wish(EventType.PAUSE)
    machine.now += 100
    machine.send(Event(EventType.DUE, machine.now, "l", 1, {"timer": "retry"}))
    machine.wish(EventType.CANCEL)
    assert machine.state.status == "cancelled"


@pytest.mark.parametrize("how", ["restart", "unbegun", ""])
def test_a_pause_stops_the_clock_of_what_it_holds(how: str) -> None:
    """A list in which no step may start has not taken too long; it has its time when it goes on."""
    inner = {"id": "q", "type": "loop", "timeout": 20, "loop": {"over": [1], "steps": [act("b")]}}
    outer = {"id": "p", "type": "parallel", "timeout": 50, "parallel": {"branches": [[inner]]}}
    machine = Machine(flow(outer, timeout=100))
    machine.now += 9
    machine.wish(EventType.PAUSE, **({how: True} if how else {}))
    for name, after in (("q", 20), ("p", 50)):
        assert machine.timers[name, 1, "timeout"] == STARTED + after
        late = Event(EventType.DUE, STARTED + 60, name, 1, {"timer": "timeout"})
        assert not relevant(machine.state, late)
    machine.now += 10_000 - 11
    machine.wish(EventType.RESUME)
    dues = {step: due - machine.now for (step, _, _), due in machine.timers.items()}
    assert dues == {"q": 10, "p": 40, None: 90}
    assert wake_of(machine.state) == machine.now + 10
    machine.fire()
    machine.answer("q[0].b", CANCELLED)
    assert machine.state.error == {
        "step": "q",
        "type": "timeout",
        "message": "took longer than its timeout of 0.02 s",
    }


def test_what_was_not_carried_out_begins_after_the_pause() -> None:
    """Paused before anything was: nothing is called until it is resumed, and no try is burnt."""
    call = {"id": "s", "type": "subflow", "subflow": "child", "depends_on": []}
    body = {"over": [1], "steps": [act("b")]}
    loop = {"id": "l", "type": "loop", "loop": body, "depends_on": []}
    first = act("a", retry={"attempts": 2, "delay": 1})
    machine = Machine(flow(first, call, loop, act("z")))
    machine.todo.clear()
    for _ in range(2):
        machine.wish(EventType.PAUSE, unbegun=True)
        assert machine.statuses() == {
            "a": "pending",
            "s": "pending",
            "l": "running",
            "l[0].b": "pending",
            "z": "pending",
        }
        folded = fold(machine.plan, machine.identity, machine.events)
        assert {type(each) for each in outstanding(folded)} == {Arm}
        machine.todo.clear()
        machine.wish(EventType.RESUME)
    assert machine.todo == {"a": 3, "s": 3, "l[0].b": 3}
    machine.answer("a", FAIL)
    assert machine.state.steps["a"].reason == "retry"
    for step in ("s", "l[0].b"):
        machine.answer(step)
    machine.finish()
    assert machine.state.status == "completed"


def test_a_cancel_ends_what_was_not_carried_out() -> None:
    """Paused before anything was, then cancelled: all is skipped."""
    machine = Machine(flow(act("a"), act("b")))
    machine.wish(EventType.PAUSE, unbegun=True)
    machine.wish(EventType.CANCEL)
    assert machine.finished == ["cancelled"]
    assert machine.statuses() == {"a": "skipped", "b": "skipped"}


def test_a_signal_may_come_first() -> None:
    """One sent before the step waits is not lost."""
    machine = Machine(flow(act("a"), act("b", "give")))
    machine.wish(EventType.SIGNAL, name="go", payload=7)
    machine.answer("a", {"suspend": {"signal": "go"}})
    assert machine.statuses()["a"] == "completed"
    assert machine.todo == {"b": 1}


def test_outputs_bind_as_the_language_says() -> None:
    """Named keys; one absent name binds the whole result; several must all be there."""
    machine = Machine(
        flow(act("a", outputs=["x", "y"]), act("b", outputs=["all"]), act("c", "give"))
    )
    machine.answer("a", {"outputs": {"x": 1, "y": 2}})
    machine.answer("b", {"outputs": {"p": 1}})
    machine.answer("c", {"outputs": {"given": 3}})
    assert machine.state.frame.scope.names == {"x": 1, "y": 2, "all": {"p": 1}, "given": 3}
    machine = Machine(flow(act("a", outputs=["x", "y"])))
    machine.answer("a", {"outputs": {"x": 1}})
    assert machine.state.failure is not None
    assert machine.state.failure["type"] == "missing_output"


def test_a_subflow_waits_for_its_child() -> None:
    """Its outputs become variables, its failure is the step's."""
    call = {"id": "s", "type": "subflow", "subflow": "child"}
    machine = Machine(flow(call, act("z", inputs={"x": "${born}"})))
    assert machine.statuses() == {"s": "waiting", "z": "pending"}
    machine.answer("s", {"outputs": {"born": 1}})
    assert machine.todo == {"z": 1}
    machine = Machine(flow(call))
    machine.answer("s", FAIL)
    assert machine.state.status == "failed"


def test_a_subflow_that_is_stopped_is_not_begun_again() -> None:
    """After a crash its child is to end; the step waits until it has."""
    machine = Machine(flow({"id": "s", "type": "subflow", "subflow": "child"}))
    machine.wish(EventType.CANCEL)
    assert machine.statuses() == {"s": "waiting"}
    folded = fold(machine.plan, machine.identity, machine.events)
    assert Stop("s", 1, force=False) in outstanding(folded)
    assert Launch("s", 1) not in outstanding(folded)


def test_a_list_held_by_a_pause_closes_when_the_rest_failed() -> None:
    """A loop's next iteration is held, its neighbour fails the execution: resumed, it ends."""
    body = {"over": [0, 1], "steps": [act("s")]}
    machine = Machine(flow(act("a"), {"id": "l", "type": "loop", "loop": body, "depends_on": []}))
    machine.wish(EventType.PAUSE)
    machine.answer("l[0].s")
    machine.answer("a", FAIL)
    machine.wish(EventType.RESUME)
    assert machine.finished == ["failed"]
