"""Recorded definitions: whether each is what its digest says, and its plan to replay by."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from controller.core.content import recompile
from controller.core.plan import Plan, Signature, digest_of
from controller.core.policy import Policy, policy_from_json
from controller.core.problem import Refused
from controller.doctor.finding import UNREADABLE, Finding
from controller.store.direct import Direct
from controller.store.doctor import version_text
from controller.store.values import decode

KEPT = 512
"""How many compiled versions stay in memory."""


class Versions:
    """Versions by digest, as they are needed.

    Args:
        built_in: Signatures of the actions that definitions may call.
        found: Takes what is wrong with one, once.
    """

    def __init__(
        self, database: Direct, built_in: Mapping[str, Signature], found: Callable[[Finding], None]
    ) -> None:
        self._database = database
        self._built_in = built_in
        self._found = found
        self._bad: set[str] = set()
        self._missing: set[str] = set()
        self._plans: OrderedDict[tuple[str, Policy], Plan] = OrderedDict()

    def lacks(self, digest: str) -> bool:
        """Whether it was asked for, and is not there."""
        return digest in self._missing

    def check(self, digest: str, content: str) -> Mapping[str, Any] | None:
        """The content, if it is what its digest says."""
        try:
            document = decode(content)
            wrong = (
                "" if digest_of(document) == digest else f"its content has {digest_of(document)}"
            )
        except UNREADABLE as error:
            wrong = f"it is no JSON: {error}"
        else:
            if not wrong:
                return document  # type: ignore[no-any-return]  # what was recorded is an object
        self.tell(Finding("version-content", digest, wrong))
        return None

    def plan(self, digest: str, policy: Mapping[str, Any]) -> Plan | None:
        """What an execution that is pinned to it is replayed by; None: it cannot be."""
        if digest in self._bad or digest in self._missing:
            return None
        key = digest, policy_from_json(policy)
        plan = self._plans.pop(key, None) or self._compiled(*key)
        if plan is not None:
            self._plans[key] = plan
            if len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        return plan

    def _compiled(self, digest: str, policy: Policy) -> Plan | None:
        try:
            content = self._database.read(version_text, digest)
        except UNREADABLE as error:
            self.tell(Finding("version-content", digest, str(error)))
            return None
        if content is None:
            self._missing.add(digest)
            return None
        document = self.check(digest, content)
        if document is None:
            return None
        try:
            return recompile(document, self._built_in, policy, digest)
        except (Refused, *UNREADABLE) as error:
            self.tell(Finding("version-unusable", digest, str(error)))
            return None

    def tell(self, finding: Finding) -> None:
        """What is wrong with a version: only the first of each; nothing is replayed by it."""
        if finding.subject not in self._bad:
            self._bad.add(finding.subject)
            self._found(finding)
