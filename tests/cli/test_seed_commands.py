"""The seed's command lines as printed, each in a process of its own, with real names and ids."""

import shlex

import pytest

from tests.cli.place import FAILING, GREETING, Place

LINES = {
    "systemprompt workflows:list --status active --format json": (0, '"name": "greeting"'),
    "systemprompt workflows:create --file greeting.yaml --name other": (0, "created other 1.0.0"),
    'systemprompt workflows:execute --id greeting --params \'{"who": "Ada"}\'': (0, "length  3"),
    "systemprompt workflows:execute --id greeting --params '{}' --async": (0, "no controller"),
    'systemprompt workflows:schedule --id greeting --at "2044-01-01T10:00:00Z"': (0, "2044-01-01"),
    'systemprompt workflows:schedule --id greeting --at "2024-01-01T10:00:00Z"': (0, "has passed"),
    'systemprompt workflows:schedule --id greeting --cron "0 10 * * *"': (0, "next at"),
    "systemprompt workflows:status --execution {ended} --detailed": (0, "luck: no luck"),
    "systemprompt workflows:history --workflow failing --status failed --limit 5": (0, "1 failed"),
    "systemprompt workflows:cancel --execution {pending} --force": (0, "cancelled {pending}"),
    "systemprompt workflows:validate --file greeting.yaml": (0, "valid (workflow greeting)"),
    "systemprompt workflows:export --id greeting --output out.yaml": (0, "wrote out.yaml"),
}
"""Command line → exit status, and something it says."""

SHORT = {
    "workflows:list -s active -f json": 0,
    "workflows:create -f greeting.yaml -n short": 0,
    'workflows:execute -i greeting -p \'{"who": "Ada"}\' -a': 0,
    "workflows:schedule -i greeting -c @daily -z Europe/Berlin -p '{}'": 0,
    "workflows:schedule -i greeting -a 2044-01-01T10:00:00Z": 0,
    "workflows:status -e {ended} -d": 0,
    "workflows:history -w failing -s failed -l 5": 0,
    "workflows:cancel -e {pending} -f": 0,
    "workflows:validate -f greeting.yaml": 0,
    "workflows:export -i greeting -o out.yaml": 0,
}


@pytest.fixture
def known(here: Place) -> dict[str, str]:
    """Ids by the names they have in the lines: executions that ended and that wait."""
    here.write("greeting.yaml", GREETING)
    here.create(GREETING, FAILING)
    here("workflows:execute", "--id", "failing")
    (ended,) = here.fine("workflows:history", "-f", "json").data["executions"]
    pending = here.fine("workflows:execute", "--id", "greeting", "--async").out.strip()
    return {"ended": ended["id"], "pending": pending}


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_of_the_seed_works_as_printed(
    here: Place, known: dict[str, str], line: str
) -> None:
    """Each does what it says and exits with the status that the documents promise."""
    program, *arguments = shlex.split(
        line.replace("{ended}", known["ended"]).replace("{pending}", known["pending"])
    )
    status, says = LINES[line]
    said = here.apart(*arguments, program=program)
    assert said.status == status, said
    assert says.replace("{pending}", known["pending"]) in said.out + said.err


@pytest.mark.parametrize("line", SHORT)
def test_every_short_option_is_the_long_one(here: Place, known: dict[str, str], line: str) -> None:
    """The short forms of the seed's options are taken by the same commands."""
    filled = line.replace("{ended}", known["ended"]).replace("{pending}", known["pending"])
    said = here(*shlex.split(filled))
    assert said.status == SHORT[line], said
