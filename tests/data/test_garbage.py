"""The search for garbage waits while some thread is inside, and is afterwards as it was before."""

from __future__ import annotations

import gc
import threading

import pytest
from triptych_data.garbage import garbage_later


@pytest.fixture(params=[True, False], ids=["on before", "off before"])
def enabled(request):
    """Whether the search is on; afterwards it is on again."""
    (gc.enable if request.param else gc.disable)()
    yield request.param
    gc.enable()


def test_the_last_thread_that_leaves_restores_the_search(enabled):
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        with garbage_later():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=wait)
    with garbage_later():
        assert not gc.isenabled()
        thread.start()
        entered.wait()
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled() == enabled


def test_an_error_restores_it_too(enabled):
    with pytest.raises(ZeroDivisionError), garbage_later():
        raise ZeroDivisionError
    assert gc.isenabled() == enabled
