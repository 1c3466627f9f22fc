"""Where the commands start: `windlass`, `systemprompt`, `python -m controller`."""

import gc
import sys

from controller.cli import start


def main() -> int:
    """Run the command line of this process; the exit status."""
    status = start()
    gc.freeze()  # the interpreter would look at all that there is before the process ends
    return status


if __name__ == "__main__":
    sys.exit(main())
