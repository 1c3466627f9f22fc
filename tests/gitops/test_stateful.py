"""Whatever happens: the database ends equal to the source, and no revision is applied in part.

A real repository, a real database, and any sequence of commits, edits, force pushes, crashes in the
middle of a transaction, lost databases' connections and restarts. The model is only this: what the
files of the branch's tip say.
"""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.app import App
from controller.core.drift import CHANGING, Fate
from controller.core.problem import Unavailable
from controller.reconcile import Reconciler, reconciler
from controller.settings import Settings
from controller.source.examine import Examiner
from controller.source.library import Library, uses
from controller.source.snapshot import Found, Snapshot, Stat
from controller.store import Store, ledger
from controller.store.tables import Transaction
from tests.fake_clock import FakeClock
from tests.gitops.repository import Line
from tests.service.place import ACTION, flow

T = TypeVar("T")

USUAL = 100
"""Examples of a property in the usual run; `make thorough` asks for more."""

PATHS = [f"{name}.yaml" for name in "abcdef"] + ["team/a.yaml", "team/g.yml"]
NAMES = list("abcd")
TEXTS = ["one", "two", "three"]


def _content(kind: str, name: str, text: str) -> str:
    match kind:
        case "workflow":
            return flow(name, text)
        case "caller":
            return flow(name, text, action="greet")
        case "action":
            return ACTION.format(name="greet", text=text)
        case "starter":
            step = f"  - {{id: a, type: subflow, subflow: {name}}}\n"
            return f"name: starter-of-{name}\ndescription: {text}\nsteps:\n{step}"
        case "many":
            return f"{flow(name, text)}---\n{flow(f'{name}-too', text)}"
        case _:
            return f"name: {name}\nsteps: [\n{text}"


class Crash(Exception):
    """The controller dies here."""


class Machine(RuleBasedStateMachine):
    """One repository, one controller after another."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(prefix="wl-")
        self.repository = Line(Path(self.folder.name))
        self.clock = FakeClock()
        self.files: dict[str, str] = {}
        self.pushed: dict[str, str] = {}
        self.applied: list[str] = []
        self.app: App | None = None
        self.opened = AsyncExitStack()
        self.reconciler: Reconciler | None = None

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(what)

    @initialize()
    def begin(self) -> None:
        """An empty repository, and a controller that looks at it."""
        self.repository.commit({})
        self.do(self._open())
        self.look()

    async def _open(self) -> None:
        state = Path(self.folder.name) / "state"
        state.mkdir(exist_ok=True)
        source = {"name": "git", "url": self.repository.url, "prune_limit": 100}
        given: dict[str, Any] = {"sources": [source]}
        chosen = Settings(state_dir=state, **given)
        store = Store.open(chosen.url, monotonic=self.clock.monotonic)
        self.app = App(chosen, await self.opened.enter_async_context(store), self.clock)
        self.reconciler = self.app.reconciler(self.app.specs["git"], lambda: None)

    @rule(
        path=st.sampled_from(PATHS),
        kind=st.sampled_from(["workflow", "caller", "action", "starter", "many", "broken"]),
        name=st.sampled_from(NAMES),
        text=st.sampled_from(TEXTS),
    )
    def edit(self, path: str, kind: str, name: str, text: str) -> None:
        """Write a file of the work tree."""
        self.files[path] = _content(kind, name, text)

    @rule(path=st.sampled_from(PATHS))
    def remove(self, path: str) -> None:
        """Remove a file of the work tree."""
        self.files.pop(path, None)

    @rule(force=st.booleans())
    def push(self, force: bool) -> None:  # ruff: ignore[boolean-type-hint-positional-argument]  # Hypothesis gives it
        """Commit what there is; by force: in place of the last commit."""
        self.repository.commit(self.files, amend=force and len(self.repository.commits) > 1)
        self.pushed = dict(self.files)

    @rule(
        path=st.sampled_from(PATHS),
        kind=st.sampled_from(["workflow", "caller", "action"]),
        name=st.sampled_from(NAMES),
        text=st.sampled_from(TEXTS),
        force=st.booleans(),
    )
    def change(self, path: str, kind: str, name: str, text: str, force: bool) -> None:  # ruff: ignore[boolean-type-hint-positional-argument]  # Hypothesis gives it
        """Write a file and push it, as people mostly do."""
        self.edit(path, kind, name, text)
        self.push(force)

    @rule(whole=st.booleans())
    def look(self, whole: bool = True) -> None:  # ruff: ignore[boolean-type-hint-positional-argument, boolean-default-value-positional-argument]  # Hypothesis gives it
        """The controller looks as planned, and the database is equal to the branch's tip."""
        assert self.reconciler is not None
        planned = self.do(self._planned())
        outcome = self.do(self.reconciler.reconcile(whole=whole))
        done = {name: each for name, each in outcome.drift.fates.items() if each in CHANGING}
        assert done == planned
        assert outcome.source.revision == self.repository.head
        self.compare()

    @rule()
    def restart(self) -> None:
        """Another process takes over."""
        self.do(self._close())
        self.do(self._open())

    @rule(after=st.integers(0, 4))
    def crash(self, after: int) -> None:
        """The controller dies in the middle of a transaction: nothing of the revision is there."""
        self._fails_at(after, Crash())
        self.restart()

    @rule(after=st.integers(0, 4))
    def lose_the_database(self, after: int) -> None:
        """The transaction fails, and the same controller goes on."""
        self._fails_at(after, Unavailable("the database went away"))
        self.look(whole=False)

    def _fails_at(self, after: int, error: Exception) -> None:
        before = self.do(self._rows())
        assert self.reconciler is not None
        whole = vars(reconciler)["apply_revision"]
        vars(reconciler)["apply_revision"] = _broken(after, error)
        try:
            self.do(self.reconciler.reconcile())
        except type(error):
            assert self.do(self._rows()) == before, "a revision was applied in part"
        finally:
            vars(reconciler)["apply_revision"] = whole

    @invariant()
    def every_revision_is_one_that_was_pushed(self) -> None:
        """The history names commits, each once in a row."""
        if self.app is None:
            return
        found = [each.revision for each in self.do(self.app.sources.history("git", limit=200))]
        assert all(one != other for one, other in pairwise(found))

    def compare(self) -> None:
        """What is live is what the same files mean to somebody who knows nothing else.

        Besides that, only last good versions: of names in files that are broken now, and of
        workflows that use such names.
        """
        live, meant = self.do(self._rows()), self._meant()
        assert {name: row for name, row in live.items() if name in meant} == meant
        assert self.app is not None
        status = self.do(self.app.sources.status("git"))
        kept = {
            (each["kind"], each["name"])
            for file in status.files
            if file.status == "invalid"
            for each in file.definitions
        }
        users = {
            each["name"]
            for file in status.files
            for each in file.definitions
            if not kept.isdisjoint(uses(each))
        }
        assert live.keys() - meant.keys() <= {name for _, name in kept} | users

    async def _planned(self) -> dict[str, Fate]:
        assert self.app is not None
        plan = await self.app.sources.plan("git")
        return {each.name: each.kind for each in plan.changes if each.kind in CHANGING}

    async def _rows(self) -> dict[str, tuple[str, str | None]]:
        assert self.app is not None
        listed = await self.app.service.list_workflows()
        return {each.name: (each.digest, each.path) for each in listed}

    def _meant(self) -> dict[str, tuple[str, str | None]]:
        """Valid workflows of the tip's files."""
        assert self.app is not None
        found = [
            Found(path, Stat(0, 0, 0), str(hash(text)), text.encode())
            for path, text in sorted(self.pushed.items())
        ]
        examiner = Examiner(
            library=Library(),
            built_in=self.app.catalog.built_in,
            elsewhere={},
            policy=self.app.settings.policy,
            limits=self.app.settings.limits,
            read=lambda _: {},
            now=self.clock.now(),
        )
        workflows = examiner.examine(Snapshot(tuple(found))).workflows
        return {name: (each.digest, each.path) for name, each in workflows.items()}

    async def _close(self) -> None:
        if self.reconciler is not None:
            self.reconciler.stop()
            await self.opened.aclose()

    def teardown(self) -> None:
        """Look once more, whatever the end was; then take everything away."""
        try:
            if self.reconciler is not None:
                self.look()
        finally:
            self.do(self._close())
            self.loop.close()
            self.folder.cleanup()


def _broken(after: int, error: Exception) -> Callable[..., list[str]]:
    """A transaction that fails after some of its statements."""

    def apply(tx: Transaction, application: Any) -> list[str]:
        steps: list[Callable[[], object]] = [
            lambda: ledger.put_workflows(tx, [each[:2] for each in application.workflows.values()]),
            lambda: ledger.archive(tx, application.pruned, application.now),
            lambda: ledger.put_files(
                tx, application.source.id, application.files, application.removed
            ),
            lambda: ledger.put_source(tx, application.source),
        ]
        for step in steps[:after]:
            step()
        raise error

    return apply


TestWhateverHappens = pytest.mark.timeout(900)(Machine.TestCase)
TestWhateverHappens.settings = settings(
    max_examples=10 if settings().max_examples <= USUAL else 300,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_transaction_that_failed_is_tried_again() -> None:
    """By the same controller, which must not believe that it was done."""
    machine = Machine()
    machine.begin()
    for text in ("one", "two"):
        machine.edit("a.yaml", "workflow", "a", text)
        machine.push(force=False)
        machine.lose_the_database(after=0)
    machine.teardown()
