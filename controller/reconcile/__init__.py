"""Makes the database equal to its sources: one revision, one transaction, one status at the end.

    look → trust → examine → judge → apply → status

Level-triggered: it never asks what happened, only what is there. A file event, a push, the interval
and a person's wish all say the same, "look again". Running executions keep the version they started
with; a file with a problem keeps the version that was good.
"""

from controller.reconcile.ahead import Crew
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.status import Outcome
from controller.reconcile.wishes import Wishes, mark_removed

__all__ = ["Crew", "Outcome", "Reconciler", "Wishes", "mark_removed"]
