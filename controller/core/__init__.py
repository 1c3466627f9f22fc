"""Pure: nothing here reads, waits, measures time or rolls dice."""
