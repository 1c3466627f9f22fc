"""The built-in actions, one module each."""
