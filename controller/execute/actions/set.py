"""`set`: values of expressions, under new names."""

from typing import Any

from controller.execute.action import BUILT_IN, Call, Result
from controller.execute.scripts import Scripts


class Set:
    """See `BUILT_IN["set"]`."""

    signature = BUILT_IN["set"]

    def perform(self, call: Call, inputs: dict[str, Any]) -> Result:
        """Give back what was given."""
        del call
        return inputs


def build(_scripts: Scripts) -> Set:
    """The action."""
    return Set()
