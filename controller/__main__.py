"""Where the commands start: `windlass`, `systemprompt`, `python -m controller`."""

import sys

from controller.cli import start


def main() -> int:
    """Run the command line of this process; the exit status."""
    return start()


if __name__ == "__main__":
    sys.exit(main())
