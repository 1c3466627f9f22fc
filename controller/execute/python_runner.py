"""Runs the `main` of a step's script; a program of its own, started for each call.

    python python_runner.py SCRIPT INPUTS OUTPUTS FAILURE

Files all: what `main` is called with, what it returned, or what it raised, as JSON. It imports
little, because its start is most of what a short script costs, and nothing of the controller.
"""

import json
import sys
from collections.abc import Callable


def call(script: str, inputs: str, outputs: str, failure: str) -> int:
    """Call `main` of the script; the exit status."""
    try:
        result = _main(script)(**json.loads(_read(inputs)))
    except Exception as error:  # ruff: ignore[blind-except]  # the engine is told
        return _fail(failure, error, type(error).__name__, _frames(error, script))
    try:
        if result is not None:  # or it would be in the way of what the script itself wrote there
            _write(outputs, _encoded(result))
    except (TypeError, ValueError, RecursionError, OSError) as error:
        return _fail(failure, error, "bad_output")
    return 0


def _main(script: str) -> Callable[..., object]:
    module: dict[str, object] = {"__name__": "script", "__file__": script}
    exec(compile(_read(script), script, "exec"), module)  # ruff: ignore[exec-builtin]  # it is what we are for
    main = module.get("main")
    if not callable(main):
        raise TypeError("the script defines no function `main`")
    return main


def _encoded(result: object) -> str:
    if not isinstance(result, dict):
        raise TypeError(f"main() must return a dict, not {type(result).__name__}")
    return json.dumps(result, allow_nan=False)


def _frames(error: BaseException, script: str) -> list[str]:
    """Where it was raised, as far as that is the script's own text."""
    import traceback  # ruff: ignore[import-outside-top-level]  # start-up time

    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == script]
    said = traceback.format_exception_only(error)
    return [*traceback.format_list(own), *said]


def _fail(failure: str, error: Exception, kind: str, said: list[str] | None = None) -> int:
    """Tell the log and the engine; the exit status."""
    message = str(error).encode("utf-8", "backslashreplace").decode() or type(error).__name__
    sys.stderr.writelines(said or [f"{message}\n"])
    _write(failure, json.dumps({"type": kind, "message": message}))
    return 1


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # ruff: ignore[builtin-open, read-whole-file]  # start-up time
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:  # ruff: ignore[builtin-open, write-whole-file]  # start-up time
        file.write(text)


if __name__ == "__main__":
    sys.exit(call(*sys.argv[1:5]))
