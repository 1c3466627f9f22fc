"""`emit`: an event, which starts the workflows that have a trigger for it."""

from typing import Any

from controller.execute.action import BUILT_IN, Call, Result
from controller.execute.scripts import Scripts


class Emit:
    """See `BUILT_IN["emit"]`."""

    signature = BUILT_IN["emit"]

    async def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Start them; an attempt that is repeated after a crash starts nothing twice."""
        await call.emit(call, inputs["event"], inputs.get("data") or {})
        return {}


def build(_scripts: Scripts) -> Emit:
    """The action."""
    return Emit()
