"""What is durable: tables, the ledger's verbs, and the journal that groups commits.

`Store` is imported when it is asked for: whoever needs only the records does not pay for the rest.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controller.store.store import Store

__all__ = ["Store"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from controller.store import store  # ruff: ignore[import-outside-top-level]  # start-up time

    return getattr(store, name)
