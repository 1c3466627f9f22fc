"""`fail`: a failure, with a type and a message of the author's."""

from typing import Any

from controller.execute.action import BUILT_IN, ActionFailed, Call, Result
from controller.execute.scripts import Scripts


class Fail:
    """See `BUILT_IN["fail"]`."""

    signature = BUILT_IN["fail"]

    def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Fail."""
        message = inputs.get("message") or f"step {call.step} was told to fail"
        raise ActionFailed(inputs.get("type") or "fail", message)


def build(_scripts: Scripts) -> Fail:
    """The action."""
    return Fail()
