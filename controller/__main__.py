"""The command `windlass`."""

from controller import __version__


def main() -> int:
    """Say which version this is."""
    return len(__version__) and 0
