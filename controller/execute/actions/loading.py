"""A built-in action by its name."""

import importlib

from controller.execute.action import BuiltIn
from controller.execute.scripts import Scripts


def build(name: str, scripts: Scripts) -> BuiltIn:
    """The action; its module, which has its name, is imported only now."""
    module = importlib.import_module(f"controller.execute.actions.{name}")
    built: BuiltIn = module.build(scripts)
    return built
