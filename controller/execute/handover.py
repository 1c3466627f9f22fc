"""What a script left for the engine in a file: read with suspicion.

The script wrote the file, so it may be anything: a pipe that never ends, a link to somewhere the
script itself may not read, a gigabyte, half a document.
"""

import os
import stat
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from controller.execute.action import ActionFailed

LARGEST = 16_777_216
"""Bytes of such a file."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a regular file; None when there is no file or nothing in it.

    Raises:
        ActionFailed: It is anything else; type `bad_output`.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _bad(f"cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _bad("is not a file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise _bad(f"is larger than {LARGEST:,} bytes")
    return _object(content) if content.strip() else None


def _object(content: bytes) -> dict[str, Any]:
    try:
        outputs = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise _bad(f"is not JSON: {error}") from None
    if not isinstance(outputs, dict):
        raise _bad("must hold a JSON object")
    return outputs


def _bad(why: str) -> ActionFailed:
    return ActionFailed("bad_output", f"the outputs file {why}")
