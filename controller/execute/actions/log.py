"""`log`: a line in the execution's log."""

from typing import Any

from controller.core.expression import to_text
from controller.execute.action import BUILT_IN, ActionFailed, Call, Result
from controller.execute.scripts import Scripts

LEVELS = ("debug", "info", "warn", "error")


class Log:
    """See `BUILT_IN["log"]`."""

    signature = BUILT_IN["log"]

    def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Leave the line."""
        level = inputs.get("level") or "info"
        if level not in LEVELS:
            raise ActionFailed("invalid_inputs", f"`level` is one of {', '.join(LEVELS)}")
        call.log(level, to_text(inputs["message"]), inputs.get("fields"))
        return {}


def build(_scripts: Scripts) -> Log:
    """The action."""
    return Log()
