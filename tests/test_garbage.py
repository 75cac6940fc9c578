"""A program that starts without garbage collection, and goes on with it."""

import gc
import weakref

import pytest

from llmagentos.recipes.garbage import without_collection


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def fresh():
    """A process that has left nothing out yet; other tests have the collector as it was."""
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_inside_and_what_comes_after_is():
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    left = weakref.ref(Cycle())
    gc.collect()
    assert left() is None


def test_what_the_first_block_makes_is_left_out_and_garbage_of_later_ones_is_found():
    found = []
    for _ in range(2):
        with without_collection():
            left = weakref.ref(Cycle())
        gc.collect()
        found.append(left() is None)
    assert found == [False, True]


def test_an_error_inside_puts_the_collector_on_again():
    with pytest.raises(ImportError, match="nothing_there"), without_collection():
        import nothing_there  # noqa: F401
    assert gc.isenabled()


def test_a_program_that_has_it_off_keeps_it_off():
    gc.disable()
    with without_collection():
        pass
    assert not gc.isenabled()
