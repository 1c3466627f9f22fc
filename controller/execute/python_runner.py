"""Runs the `main` of a step's script; a program of its own, started for each call.

Reads the inputs from `$WINDLASS_INPUTS`, writes what `main` returned to `$WINDLASS_OUTPUTS`, or
what it raised beside it. It imports nothing but the standard library, and not the controller.
"""

import json
import os
import sys
import traceback
from pathlib import Path


def _fail(directory: Path, error: BaseException, kind: str | None = None) -> int:
    """Say what went wrong: the frames of the script to the log, the error to the engine."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.endswith("script.py")
    ]
    for line in traceback.format_list(frames):
        sys.stderr.write(line)
    message = str(error) or type(error).__name__
    sys.stderr.write(f"{type(error).__name__}: {message}\n")
    said = {"type": kind or type(error).__name__, "message": message}
    (directory / "failure.json").write_text(json.dumps(said))
    return 1


def run(path: str) -> int:
    """Execute the script at `path`; the exit status."""
    outputs = Path(os.environ["WINDLASS_OUTPUTS"])
    source = Path(path)
    inputs = json.loads(Path(os.environ["WINDLASS_INPUTS"]).read_text())
    module = {"__name__": "script", "__file__": path}
    try:
        exec(compile(source.read_text(), path, "exec"), module)  # noqa: S102  # it is what we are for
        main = module.get("main")
        if not callable(main):
            raise TypeError("the script defines no `main`")  # noqa: TRY301  # told like its own errors
        result = main(**inputs)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException as error:  # noqa: BLE001  # whatever it is, the engine is told
        return _fail(outputs.parent, error)
    try:
        if result is None:
            result = {}
        if not isinstance(result, dict):
            raise TypeError(f"main() must return a dict, not {type(result).__name__}")  # noqa: TRY301  # likewise
        outputs.write_text(json.dumps(result, allow_nan=False))
    except (TypeError, ValueError) as error:
        return _fail(outputs.parent, error, "bad_output")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
