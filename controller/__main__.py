"""Where the commands start: `windlass`, `systemprompt`, `python -m controller`."""

import gc
import sys

INTERRUPTED = 130
"""As in `cli/ending.py`, which is not there yet."""


def main() -> int:
    """Run the command line of this process; the exit status."""
    try:
        from controller.cli import start  # ruff: ignore[import-outside-top-level]  # Ctrl-C may come amid it

        status = start()
    except KeyboardInterrupt:
        return INTERRUPTED
    gc.freeze()  # the interpreter would look at all that there is before the process ends
    return status


if __name__ == "__main__":
    sys.exit(main())
