"""The HTTP port: health, metrics, hooks."""
