"""What a pull request would change, for people and for forges."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli.annotations import github, gitlab
from controller.core.difference import Change, Subject, difference, sentence
from controller.core.drift import Fate
from controller.core.problem import Refused
from controller.source.diagnostic import Diagnostic
from tests.crash.daemon import windlass
from tests.fake_clock import FakeClock
from tests.gitops.repository import Repository
from tests.service.place import ACTION, flow, opened

BASE: dict[str, Any] = {
    "name": "nightly",
    "inputs": [{"name": "day", "type": "string"}, {"name": "old"}],
    "outputs": [{"name": "rows", "source": "fetch"}],
    "timeout": "1h",
    "triggers": [{"type": "scheduled", "config": {"cron": "0 3 * * *"}}],
    "steps": [
        {"id": "fetch", "type": "action", "action": "shell", "inputs": {"command": "x"}},
        {
            "id": "check",
            "type": "condition",
            "condition": {
                "expression": "true",
                "then_steps": [{"id": "tell", "type": "action", "action": "log"}],
            },
        },
        {"id": "last", "type": "action", "action": "log"},
    ],
    "error_handler": {"id": "cry", "type": "action", "action": "log"},
}


def _content(workflow: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"workflow": workflow, "actions": {}, "subflows": {}} | more


def _said(**changes: Any) -> list[str]:
    after = {**BASE, **changes}
    return [sentence(each) for each in difference(_content(BASE), _content(after))]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"timeout": 3_600_000, "version": "1.0.0", "description": ""}, []),
        ({"timeout": "2h"}, ["workflow: timeout 3600000 ms → 7200000 ms"]),
        ({"concurrency": {"max": 2}}, ["workflow: concurrency none → {"]),
        (
            {"inputs": [{"name": "day", "type": "string", "required": True}, {"name": "new"}]},
            ["input day: required false → true", "input old: removed", "input new: added"],
        ),
        ({"outputs": []}, ["output rows: removed"]),
        (
            {"triggers": [{"type": "scheduled", "config": {"cron": "0 4 * * *", "jitter": "1m"}}]},
            ['schedule "0 3 * * *" UTC: cron "0 3 * * *" → "0 4 * * *", jitter 0 → 60000'],
        ),
        ({"triggers": []}, ['schedule "0 3 * * *" UTC: removed']),
        (
            {"triggers": [*BASE["triggers"], {"type": "event", "config": {"event": "go"}}]},
            ["trigger event go: added"],
        ),
        (
            {"steps": [BASE["steps"][0], BASE["steps"][2]]},
            ["step check: removed", "step check.then_steps.tell: removed"],
        ),
        (
            {"steps": [{**BASE["steps"][0], "retry": {"attempts": 5}}, *BASE["steps"][1:]]},
            ["step fetch: retry none → {"],
        ),
        (
            {"steps": [BASE["steps"][2], *BASE["steps"][:2]]},
            ['step last: moved, place "its place in the list" → "another one"'],
        ),
        ({"error_handler": None}, ["error handler cry: removed"]),
    ],
)
def test_what_a_version_says_otherwise(changes: dict[str, Any], expected: list[str]) -> None:
    """One line for each thing that differs in meaning, and none for what does not."""
    said = _said(**changes)
    assert len(said) == len(expected), said
    assert [
        one for one, other in zip(said, expected, strict=True) if not one.startswith(other)
    ] == []


def test_a_step_that_goes_elsewhere_is_moved() -> None:
    """Into a branch: moved, with where from and where to; its changes are told beside it."""
    steps = [
        BASE["steps"][0],
        {
            **BASE["steps"][1],
            "condition": {
                "expression": "true",
                "then_steps": [
                    *BASE["steps"][1]["condition"]["then_steps"],
                    {**BASE["steps"][2], "when": "${day != ''}"},
                ],
            },
        },
    ]
    found = difference(_content(BASE), _content({**BASE, "steps": steps}))
    moved, changed = (each for each in found if each.name.endswith(".last"))
    assert (moved.change, moved.details) == (
        Change.MOVED,
        (("place", "steps", "check.then_steps"),),
    )
    assert (changed.change, changed.details[0][0]) == (Change.CHANGED, "when")


def test_changed_actions_and_subflows_are_told() -> None:
    """What a workflow calls is part of its version."""
    one = {"kind": "action", "name": "greet", "run": {"shell": "echo one"}}
    other = one | {"run": {"shell": "echo two"}}
    before = _content(BASE, actions={"greet": one}, subflows={"s": {"inputs": [], "outputs": []}})
    after = _content(BASE, actions={"greet": other}, subflows={})
    found = difference(before, after)
    assert [(each.subject, each.change, each.name) for each in found] == [
        (Subject.ACTION, Change.CHANGED, "greet"),
        (Subject.SUBFLOW, Change.REMOVED, "s"),
    ]


@given(st.permutations(range(3)), st.permutations(range(3)))
def test_a_difference_has_two_sides(one: list[int], other: list[int]) -> None:
    """Nothing differs from itself; what one side adds, the other removes."""
    ids = ["a", "b", "c"]

    def made(order: list[int]) -> dict[str, Any]:
        steps = [
            {"id": ids[each], "type": "action", "action": "log"} for each in order[: order[0] + 1]
        ]
        return _content({"name": "x", "steps": steps})

    before, after = made(one), made(other)
    assert difference(before, before) == ()
    there, back = difference(before, after), difference(after, before)
    assert (there == ()) == (before == after)
    added = {each.name for each in there if each.change is Change.ADDED}
    assert added == {each.name for each in back if each.change is Change.REMOVED}


HOSTILE = Diagnostic("a,b:c.yaml", 3, 5, "wrong-type", "100%\r\n::error::no", "50 % is\nenough")


def test_github_annotations_cannot_be_broken_out_of() -> None:
    """A line each, with what the protocol reads escaped."""
    [line] = github([HOSTILE], "team/")
    assert line == (
        "::error file=team/a%2Cb%3Ac.yaml,line=3,col=5,title=wrong-type::"
        "100%25%0D%0A::error::no%0A50 %25 is%0Aenough"
    )


def test_gitlab_reports_are_code_quality() -> None:
    """With a fingerprint that stays when lines above come and go."""
    lower = Diagnostic("a.yaml", 9, 1, "wrong-type", "no", severity="warning", excerpt="x: 1")
    upper = Diagnostic("a.yaml", 3, 1, "wrong-type", "no", severity="warning", excerpt="x: 1")
    [one], [other] = gitlab([lower]), gitlab([upper])
    assert one["fingerprint"] == other["fingerprint"]
    assert one["location"] == {"path": "a.yaml", "lines": {"begin": 9}}
    assert (one["severity"], one["check_name"]) == ("minor", "wrong-type")


async def test_a_plan_of_a_branch_tells_what_a_merge_would_do(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Created, updated, pruned, and the executions that go on; nothing is written."""
    repository = Repository(tmp_path)
    repository.write("act.yaml", ACTION.format(name="greet", text="one"))
    repository.write("c.yaml", flow("c", action="greet"))
    repository.write("b.yaml", flow("b"))
    first = repository.put("a.yaml", flow("a", "one"))
    async with opened(tmp_path, clock, {"name": "git", "url": repository.url}) as place:
        await place.reconcile("git")
        await place.app.service.execute_workflow("a")
        repository.git("checkout", "--quiet", "-b", "next")
        repository.write("a.yaml", flow("a", "two"))
        repository.write("act.yaml", ACTION.format(name="greet", text="two"))
        repository.write("d.yaml", flow("d"))
        repository.git("rm", "--quiet", "b.yaml")
        second = repository.commit()
        plan = await place.app.sources.plan("git", revision="next")
        for named in (second, second[:10]):
            assert await place.app.sources.plan("git", revision=named) == plan
        assert plan.revision == second
        changes = {each.name: each for each in plan.changes}
        kinds = {name: str(each.kind) for name, each in changes.items()}
        assert kinds == {"a": "updated", "b": "pruned", "c": "updated", "d": "created"}
        assert changes["a"].running == 1
        assert [each.subject for each in changes["c"].differences] == [Subject.ACTION]
        assert (plan.exit_status, plan.refusal) == (2, None)
        assert (await place.app.sources.plan("git", revision=first)).exit_status == 0
        assert (await place.app.sources.status("git")).source.revision == first


async def test_a_plan_knows_what_broken_files_said(tmp_path: Path, clock: FakeClock) -> None:
    """Their last good versions stay, and who uses them: of any files, as in a reconcile."""
    source = {"name": "definitions", "directory": tmp_path / "definitions", "prune_limit": 0}
    async with opened(tmp_path, clock, source) as place:
        place.write("a.yaml", flow("a"))
        place.write("b.yaml", flow("b", action="act"))
        place.write("act.yaml", ACTION.format(name="act", text="x"))
        place.write("c.yaml", flow("c"))
        await place.reconcile()
        place.write("a.yaml", "name: a\nsteps: [\n")
        place.write("act.yaml", "kind: action\nname: act\nrun: [\n")
        place.write("d.yaml", flow("c", "moved"))
        (place.root / "c.yaml").unlink()
        elsewhere = tmp_path / "elsewhere"
        shutil.copytree(place.root, elsewhere)
        plans = [await place.app.sources.plan(directory=each) for each in (None, elsewhere)]
        assert plans[0] == plans[1]
        assert [(each.name, each.kind) for each in plans[0].changes] == [("c", Fate.UPDATED)]
        found = [(each.path, each.code) for each in plans[0].diagnostics]
        assert found == [("a.yaml", "yaml-syntax"), ("act.yaml", "yaml-syntax")]
        assert (plans[0].exit_status, plans[0].refusal) == (1, None)
        outcome = await place.reconcile()
        assert outcome.drift.of(Fate.UPDATED) == ["c"]
        assert (outcome.drift.of(Fate.PRUNED), outcome.drift.of(Fate.INVALID)) == ([], ["a"])
        plan = await place.app.sources.plan()
        assert (plan.changes, plan.diagnostics) == ([], plans[0].diagnostics)


async def test_a_plan_says_what_the_policy_would_refuse(tmp_path: Path, clock: FakeClock) -> None:
    """Mass deletion, or a broken file where the revision would be rejected: exit status 1."""
    repository = Repository(tmp_path)
    repository.write("b.yaml", flow("b"))
    repository.put("a.yaml", flow("a"))
    source = {"name": "git", "url": repository.url, "on_invalid": "reject_revision"}
    async with opened(tmp_path, clock, source) as place:
        await place.reconcile("git")
        empty = tmp_path / "empty"
        empty.mkdir()
        plan = await place.app.sources.plan("git", directory=empty)
        assert "prune_limit" in (plan.refusal or "")
        repository.put("b.yaml", "name: [")
        plan = await place.app.sources.plan("git")
        assert (plan.exit_status, "not applied" in (plan.refusal or "")) == (1, True)


async def test_a_plan_is_of_what_the_controller_follows(tmp_path: Path, clock: FakeClock) -> None:
    """A command with other settings than the controller's is told so, and plans nothing."""
    one, two = Repository(tmp_path, "one"), Repository(tmp_path, "two")
    one.put("a.yaml", flow("a"))
    async with opened(tmp_path, clock, {"name": "git", "url": one.url}) as place:
        await place.reconcile("git")
    async with opened(tmp_path, clock, {"name": "git", "url": two.url}) as place:
        with pytest.raises(Refused, match="the controller follows"):
            await place.app.sources.plan("git")


def test_the_command_prints_each_format(tmp_path: Path) -> None:
    """Text for people, one JSON document, annotations for the two forges; lint takes paths."""
    folder = tmp_path / "definitions"
    folder.mkdir()
    (folder / "good.yaml").write_text(flow("good"))
    (folder / "bad.yaml").write_text(flow("bad", action="lgo"))

    def said(*arguments: str, status: int) -> str:
        done = windlass(*arguments, cwd=tmp_path, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    text = said("sync:plan", status=1)
    assert re.search(r"(?m)^\+ good \(good.yaml\): created$", text)
    plan = json.loads(said("sync:plan", "--format", "json", status=1))
    assert [each["name"] for each in plan["changes"]] == ["good"]
    assert plan["diagnostics"][0]["code"] == "unknown-action"
    prefixed = ("sync:plan", "--format", "github", "--path-prefix", "definitions")
    assert said(*prefixed, status=1).startswith("::error file=definitions/bad.yaml,line=")
    [quality] = json.loads(said("lint", "--format", "gitlab", "definitions/bad.yaml", status=1))
    assert quality["location"]["path"] == "definitions/bad.yaml"
    assert not said("lint", "definitions/good.yaml", status=0)
    assert json.loads(said("lint", "--format", "json", "definitions", status=1))
    assert json.loads(said("lint", "--format", "json", ".", status=1))
    (tmp_path / "compose.yaml").write_text("services: {}")
    elsewhere = windlass("lint", "compose.yaml", "definitions/good.yaml", cwd=tmp_path)
    assert elsewhere.stderr == "not checked: compose.yaml: not below definitions\n"
    assert (
        "'nosuch.yaml' does not exist"
        in windlass("lint", "nosuch.yaml", cwd=tmp_path, check=False).stderr
    )
    beside = windlass("lint", "definitions/bad.yaml", cwd=tmp_path, check=False).stderr
    assert beside.startswith("definitions/bad.yaml:")
    assert not windlass("lint", "--root", "nowhere", cwd=tmp_path, check=False).stdout
