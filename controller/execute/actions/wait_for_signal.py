"""`wait_for_signal`: wait durably until somebody sends a signal of this name."""

from typing import Any

from controller.execute.action import BUILT_IN, Call, Result, Suspended
from controller.execute.actions.sleep import wake_time
from controller.execute.scripts import Scripts


class WaitForSignal:
    """See `BUILT_IN["wait_for_signal"]`."""

    signature = BUILT_IN["wait_for_signal"]

    def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Wait; after `timeout` the step fails with type `timeout`."""
        until = wake_time(call.clock.now(), inputs.get("timeout"), None)
        return Suspended(until=until, signal=inputs["name"])


def build(_scripts: Scripts) -> WaitForSignal:
    """The action."""
    return WaitForSignal()
