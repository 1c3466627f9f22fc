"""`python`: a script with `main(**inputs)`, in a process of its own."""

from collections.abc import Coroutine
from typing import Any

from controller.execute.action import BUILT_IN, Call, Result
from controller.execute.scripts import Script, Scripts


class Python:
    """See `BUILT_IN["python"]`."""

    signature = BUILT_IN["python"]

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    def perform(self, call: Call, inputs: dict[str, Any]) -> Coroutine[Any, Any, Result]:
        """Start it."""
        script = Script({}, inputs=inputs.get("inputs") or {})
        return self._scripts.python(call, inputs["script"], script)


def build(scripts: Scripts) -> Python:
    """The action."""
    return Python(scripts)
