"""`shell`: a command, as text for `/bin/sh -e` or as a list without a shell."""

from collections.abc import Coroutine
from typing import Any

from controller.core.expression import to_text
from controller.execute.action import BUILT_IN, ActionFailed, Call, Result
from controller.execute.scripts import Script, Scripts


class Shell:
    """See `BUILT_IN["shell"]`."""

    signature = BUILT_IN["shell"]

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    def perform(self, call: Call, inputs: dict[str, Any]) -> Coroutine[Any, Any, Result]:
        """Start it; `${…}` of the text is in the environment already."""
        command = inputs["command"]
        if not isinstance(command, str | list):
            raise ActionFailed("invalid_inputs", "`command` is text or a list")
        env = {name: to_text(value) for name, value in (inputs.get("env") or {}).items()}
        script = Script(env, stdin=inputs.get("stdin"), cwd=inputs.get("cwd"))
        return self._scripts.shell(call, command, script)


def build(scripts: Scripts) -> Shell:
    """The action."""
    return Shell(scripts)
