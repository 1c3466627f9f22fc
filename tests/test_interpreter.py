"""What the interpreter does otherwise for a while, and as before afterwards."""

import gc
import sys

from controller.interpreter import TURN, loading, rush, uncollected


def test_blocks_may_overlap() -> None:
    """The collector looks again when the last of them has ended, whatever their order."""
    first, second = uncollected(), uncollected()
    with first:
        second.__enter__()  # ruff: ignore[unnecessary-dunder-call]  # they do not nest
        assert not gc.isenabled()
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_what_was_loaded_stays() -> None:
    """What is made while loading is never looked at; it ends even in the midst of another block."""
    before = gc.get_freeze_count()
    try:
        with uncollected():
            with loading():
                made: list[list[int]] = [[] for _ in range(10)]
            assert gc.get_freeze_count() >= before + len(made)
            assert not gc.isenabled()
    finally:
        gc.unfreeze()
    assert gc.isenabled()


def test_threads_change_over_sooner_while_many_begin() -> None:
    """And nothing is collected; as before when the last of the blocks has ended."""
    usual = sys.getswitchinterval()
    first, second = rush(), rush()
    with first:
        second.__enter__()  # ruff: ignore[unnecessary-dunder-call]  # they do not nest
        assert abs(sys.getswitchinterval() - TURN) < TURN / 2
        assert not gc.isenabled()
    assert sys.getswitchinterval() < usual
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == usual
    assert gc.isenabled()
