"""Recorded definitions, ready to use: by digest, compiled once, kept while they are in use."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from controller.core.plan import Plan, Signature
from controller.core.policy import policy_from_json
from controller.core.problem import NotFound
from controller.store import Store, ledger
from controller.store.records import ExecutionRecord

if TYPE_CHECKING:
    from controller.core.definition import Workflow

KEPT = 512
"""How many compiled versions stay in memory."""


Pinned = tuple[tuple[str, Any], ...]
"""A policy as an execution's row has it."""


@dataclass(frozen=True, slots=True)
class Version:
    """A recorded version: its content, its definition, and a plan for each policy."""

    content: Mapping[str, Any]
    workflow: "Workflow"
    plans: dict[Pinned, Plan]


class Catalog:
    """Versions by digest.

    Args:
        store: Where they are recorded.
        signatures: Gives those of the built-in actions and of entry points, when first needed.
    """

    def __init__(self, store: Store, signatures: Callable[[], Mapping[str, Signature]]) -> None:
        self._store = store
        self._signatures = signatures
        self._versions: OrderedDict[str, Version] = OrderedDict()

    @cached_property
    def built_in(self) -> Mapping[str, Signature]:
        """Signatures of the built-in actions and those of entry points."""
        return self._signatures()

    async def version(self, digest: str) -> Version:
        """The version with this digest; raises `NotFound`."""
        found = self._versions.get(digest)
        if found is None:
            from controller.core.content import workflow_in  # ruff: ignore[import-outside-top-level]  # start-up time

            record = await self._store.read(ledger.version, digest)
            if record is None:
                raise NotFound(f"no version {digest[:12]} of any workflow is recorded")
            found = Version(record.content, workflow_in(record.content), {})
            self._versions[digest] = found
            if len(self._versions) > KEPT:
                self._versions.popitem(last=False)
        self._versions.move_to_end(digest)
        return found

    async def plan_of(self, record: ExecutionRecord) -> Plan:
        """The version an execution is pinned to, compiled with its policy; raises `NotFound`."""
        version = await self.version(record.digest)
        pinned = tuple(record.policy.items())
        plan = version.plans.get(pinned)
        if plan is None:
            from controller.core.content import recompile  # ruff: ignore[import-outside-top-level]  # start-up time

            policy = policy_from_json(record.policy)
            plan = recompile(version.content, self.built_in, policy, record.digest)
            version.plans[pinned] = plan
        return plan
