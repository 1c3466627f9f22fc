"""The built-in actions, one module each; a module is imported when its action is first called."""

import importlib

from controller.execute.action import BuiltIn
from controller.execute.scripts import Scripts


def build(name: str, scripts: Scripts) -> BuiltIn:
    """The built-in action of this name."""
    module = importlib.import_module(f"controller.execute.actions.{name}")
    built: BuiltIn = module.build(scripts)
    return built
