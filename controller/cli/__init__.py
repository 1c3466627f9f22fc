"""Verbs a person types; this package only translates.

A command's module is imported when the command is run or its help is shown, so that `--help` costs
little more than the interpreter. A command's body is: parse, one call of the service, print.
"""

from controller.cli.commands import COMMANDS, main
from controller.cli.ending import start

__all__ = ["COMMANDS", "main", "start"]
