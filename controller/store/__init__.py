"""What is durable: tables, the ledger's verbs, and the journal that groups commits."""
