"""Leases: what only one controller does at a time, such as keeping a source; and who is at work.

A lease belongs to its owner until it ends, and after that until somebody else takes it. So whoever
still owns it in a transaction of its own may write: nobody else has begun. Their names have two
parts, `source/…` or `controller/…`.
"""

from functools import cache
from typing import Any

from sqlalchemy import BigInteger, bindparam, delete, or_, select
from sqlalchemy.sql.dml import ReturningInsert

from controller.store.dialect import inserting
from controller.store.records import Fenced
from controller.store.tables import Transaction, leases

LEFT_OVER = 86_400_000
"""Milliseconds after its end: whoever had a lease has gone, or has to take it anew."""

_l = leases.c


def take_lease(tx: Transaction, name: str, owner: str, *, now: int, until: int) -> bool:
    """Take it, or extend it; False: somebody else has it."""
    given = {"name": name, "owner": owner, "lease_until": until, "now": now}
    return tx.execute(_taking(tx.dialect.name), given).first() is not None


@cache
def _taking(dialect: str) -> ReturningInsert[Any]:
    statement = inserting(dialect, leases)
    free = or_(
        _l.owner == statement.excluded.owner, _l.lease_until < bindparam("now", type_=BigInteger)
    )
    changed = {each: statement.excluded[each] for each in ("owner", "lease_until")}
    values: dict[str, Any] = {each: bindparam(each) for each in ("name", "owner", "lease_until")}
    return (
        statement
        .values(values)
        .on_conflict_do_update(index_elements=[_l.name], set_=changed, where=free)
        .returning(_l.name)
    )


def give_up_lease(tx: Transaction, name: str, owner: str) -> None:
    """Let others have it at once."""
    tx.execute(delete(leases).where(_l.name == name, _l.owner == owner))


def forget_leases(tx: Transaction, now: int) -> int:
    """Remove the leases that ended long ago, and say how many; whoever still wants one takes it."""
    return tx.execute(delete(leases).where(_l.lease_until < now - LEFT_OVER)).rowcount


def hold_lease(tx: Transaction, name: str, owner: str) -> None:
    """Nobody takes it before this transaction ends; raises `Fenced` when somebody has."""
    held = select(_l.owner).where(_l.name == name, _l.owner == owner)
    if tx.execute(held.with_for_update()).first() is None:
        raise Fenced(f"{name} was taken by another controller")


def leases_of(tx: Transaction, kind: str, now: int) -> dict[str, str]:
    """The leases of a kind that have not ended: name without the kind → owner."""
    chosen = select(_l.name, _l.owner).where(
        _l.name.startswith(f"{kind}/", autoescape=True), _l.lease_until >= now
    )
    return {row[0].partition("/")[2]: row[1] for row in tx.execute(chosen.order_by(_l.name))}
