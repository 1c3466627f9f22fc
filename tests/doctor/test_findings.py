"""Each finding: a database damaged in that one way has it, and nothing else; it is mended."""

from collections import Counter

import pytest

from controller.app import run_main
from tests.doctor.damages import DAMAGES, Damage, rounds
from tests.doctor.place import Worked, findings
from tests.doctor.worked import go_on

NAMES = [each.name for each in DAMAGES]


@pytest.mark.parametrize("full", [False, True], ids=["quick", "full"])
def test_real_work_leaves_nothing_to_find(worked: Worked, *, full: bool) -> None:
    """Ended in every way, retried, waiting, paused, pending; with loops, branches, subflows."""
    report = worked.examine(full=full)
    assert findings(report) == []
    assert report.looked["executions"] >= len(worked.ids)
    assert report.looked["schedules"] == 6


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
def test_damage_is_named_and_mended_where_it_can_be(worked: Worked, damage: Damage) -> None:
    """Its kind and what it concerns, and nothing else; then there is nothing, or just the same."""
    expected = _expected(worked, damage)
    worked.sql(*damage.statements)
    before = worked.found()
    assert [(each.kind, each.subject) for each in before] == expected
    assert worked.found(full=False) == (before if damage.quick else [])
    report = worked.examine(repair=True)
    assert findings(report) == before
    assert (damage.kind not in report.found) is damage.mended
    assert worked.found() == ([] if damage.mended else before)
    audited = worked.sql("SELECT target FROM audit_log WHERE verb = 'repair'")
    assert [row[0] for row in audited] == [each.subject for each in before if damage.mended]


def _expected(worked: Worked, damage: Damage) -> list[tuple[str, str]]:
    if damage.kind.startswith("schedule"):
        which = f"SELECT id FROM workflow_schedules WHERE {damage.subject}"  # ruff: ignore[hardcoded-sql-expression]  # a test's own
        [(subject,)] = worked.sql(which)
        return [(damage.kind, subject)]
    return [(damage.kind, worked.ids.get(damage.subject, damage.subject))]


@pytest.mark.parametrize("number", range(len(rounds())))
def test_what_was_mended_goes_on_as_if_nothing_had_been(
    worked: Worked, ended: dict[str, str], number: int
) -> None:
    """Every execution ends as in a database that was never damaged, and leaves nothing to find."""
    for damage in rounds()[number]:
        worked.sql(*damage.statements)
    wanted = Counter(each.kind for each in rounds()[number])
    assert Counter(each.kind for each in worked.found()) == wanted
    worked.examine(repair=True)
    assert run_main(go_on(worked.settings, worked.ids)) == ended
    assert worked.found() == []
