"""Leases of what only one controller does: whose they are, and what is left of who has gone."""

import pytest

from controller.store.ledger_leases import (
    LEFT_OVER,
    forget_leases,
    hold_lease,
    leases_of,
    take_lease,
)
from controller.store.records import Fenced
from controller.store.tables import Transaction
from tests.store.sample import NOW


def test_leases_that_ended_long_ago_are_forgotten(tx: Transaction) -> None:
    """Not those that may only be late, and none that has not ended."""
    ends = {"gone": NOW - LEFT_OVER - 1, "slow": NOW - LEFT_OVER, "late": NOW - 1, "alive": NOW}
    for name, until in ends.items():
        assert take_lease(tx, f"controller/{name}", name, now=0, until=until)
    assert forget_leases(tx, NOW) == 1
    assert leases_of(tx, "controller", 0).keys() == {"slow", "late", "alive"}
    assert forget_leases(tx, NOW) == 0


def test_whose_lease_was_forgotten_writes_nothing_before_it_has_it_again(tx: Transaction) -> None:
    """Somebody who slept for days finds out as if another had taken it."""
    assert take_lease(tx, "source/s", "slept", now=0, until=1)
    forget_leases(tx, NOW)
    with pytest.raises(Fenced):
        hold_lease(tx, "source/s", "slept")
    assert take_lease(tx, "source/s", "slept", now=NOW, until=NOW + 1)
    hold_lease(tx, "source/s", "slept")
