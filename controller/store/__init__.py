"""What is durable: tables, the ledger's verbs, and the journal that groups commits."""

from controller.store.store import Store, database_url

__all__ = ["Store", "database_url"]
