"""When the garbage collector does not look."""

import gc

from controller.memory import loading, uncollected


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
