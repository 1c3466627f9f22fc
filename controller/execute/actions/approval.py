"""`approval`: wait durably until a person says `approved: true`; anything else fails the step."""

from typing import Any

from controller.execute.action import BUILT_IN, Call, Result, Suspended
from controller.execute.actions.sleep import wake_time
from controller.execute.scripts import Scripts


class Approval:
    """See `BUILT_IN["approval"]`."""

    signature = BUILT_IN["approval"]

    def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Wait for the signal `name` (default: the step's key) with `{approved, by, comment}`."""
        name = inputs.get("name") or call.step
        message = inputs.get("message") or "waiting for approval"
        call.log("info", f"{message} (signal {name!r})", None)
        until = wake_time(call.clock.now(), inputs.get("timeout"), None)
        return Suspended(until=until, signal=name, approval=True)


def build(_scripts: Scripts) -> Approval:
    """The action."""
    return Approval()
