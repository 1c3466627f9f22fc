"""Completion in a real bash: names with a colon, in one word and in two, and options."""

import subprocess

import pytest

from tests.cli.place import Place

TRY = """
source {script}
[[ -n "{breaks}" ]] || COMP_WORDBREAKS=" "
COMP_LINE='{line}' COMP_POINT=${{#COMP_LINE}} COMPREPLY=()
COMP_POINT=${{#COMP_LINE}}
_windlass
echo "${{COMPREPLY[*]}}"
"""


@pytest.mark.parametrize(
    ("line", "breaks", "offered"),
    [
        ("windlass ver", True, "version"),
        # bash has split at the colon: what it replaces is only what follows
        ("windlass workflows:ex", True, "export execute"),
        ("windlass workflows:ex", False, "workflows:export workflows:execute"),
        ("windlass workflows ex", True, "export execute"),
        ("windlass schedule ", True, "list next backfill pause resume cancel"),
        ("windlass workflows:execute --pa", True, "--params"),
        ("systemprompt workflows execute --as", True, "--async"),
        ("windlass workflows:create --file x", True, ""),
    ],
)
def test_bash_is_offered_what_fits(here: Place, line: str, breaks: bool, offered: str) -> None:  # ruff: ignore[boolean-type-hint-positional-argument]  # a parameter of the test
    """Whether bash splits words at `:` or not, what is typed is completed to what there is."""
    script = here.write("completion.bash", here.fine("completion", "bash").out)
    text = TRY.format(script=script, line=line, breaks="yes" if breaks else "")
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (offered, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_command_and_option(here: Place, shell: str) -> None:
    """Each script names the commands and their options."""
    script = here.fine("completion", shell).out
    assert "workflows:execute" in script
    assert "params" in script
    assert "systemprompt" in script
