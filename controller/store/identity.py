"""Identifiers that sort by the time they were made."""

import os
import threading

_TAIL_BITS = 74
_STEP_BITS = 32

_lock = threading.Lock()
_last = (-1, 0)


def new_id(now: int) -> str:
    """A UUID version 7 as text: 48 bits of `now` (epoch milliseconds), then randomness.

    Ids of one process and one millisecond ascend in the order they were made (RFC 9562, 6.2).
    """
    global _last  # ruff: ignore[global-statement]  # the order within a millisecond is a process-wide fact
    with _lock:
        if now == _last[0]:
            tail = _last[1] + 1 + int.from_bytes(os.urandom(_STEP_BITS // 8))
        else:  # one bit is left clear, so that a millisecond does not run out of ids
            tail = int.from_bytes(os.urandom(10)) >> (80 - _TAIL_BITS + 1)
        _last = (now, tail)
    high, low = tail >> 62, tail & (1 << 62) - 1
    text = f"{now << 16 | 0x7000 | high:016x}{1 << 63 | low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
