"""Random numbers of the process: a user's code may draw from them, but not set them back, which would repeat steps."""

import functools
import random
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["OF_SAMPLING", "kept_random_numbers"]

OF_SAMPLING = ("torch",)
"""The random numbers from which completions are sampled."""
REMEDY = (
    "they were put back, because every step would go on from the same numbers; use a generator of its own "
    "(random.Random(0), numpy.random.default_rng(0), torch.Generator().manual_seed(0))"
)
_WORDS = 624
_MOST_BLOCKS = 1600
"""So many times may MT19937 make new words in one call; to look for a state among them takes 5 ms."""
_STATE_BYTES, _FIRST_WORD = 5056, 24
"""Of torch's state for CPUs: its length, and where its words of 64 bits begin."""
_told: set[tuple[str, str]] = set()


@contextmanager
def kept_random_numbers(what: str, *, names: Collection[str] = ("torch", "numpy", "random")) -> Iterator[None]:
    """Put back the global random numbers that the code within sets to a state to which drawing does not lead, and warn
    once for each library.

    ``what`` is what the warning calls the code. Numbers that are only drawn stay drawn.
    """
    before = {name: read() for name, (read, _, _) in _generators().items() if name.split()[0] in names}
    try:
        yield
    finally:
        known = _generators()
        for name, state in before.items():
            read, write, is_ahead = known[name]
            now = read()
            if not is_ahead(state, now):
                write(state)
                if (what, name) not in _told:
                    _told.add((what, name))
                    warnings.warn(
                        f"{what} sets the random numbers of {name} (or draws more than {_WORDS * _MOST_BLOCKS:,}); "
                        f"{REMEDY}",
                        stacklevel=3,
                    )


Generator = tuple[Callable[[], Any], Callable[[Any], None], Callable[[Any, Any], bool]]


def _generators() -> dict[str, Generator]:
    """By name: how to read a state, how to write it, and whether a second state is as far as the first one or ahead."""
    found: dict[str, Generator] = {"random": (random.getstate, random.setstate, _is_python_ahead)}
    found["numpy"] = (np.random.get_state, np.random.set_state, _is_numpy_ahead)
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = (torch.get_rng_state, torch.set_rng_state, _is_torch_ahead)
        for device in range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ():
            generator = torch.cuda.default_generators[device]
            found[f"torch (cuda:{device})"] = (generator.get_state, generator.set_state, _is_cuda_ahead)
    return found


def _is_python_ahead(before: Any, now: Any) -> bool:
    if before == now:
        return True
    words = [np.array(state[1][:_WORDS], np.uint32) for state in (before, now)]
    return _is_ahead(words[0], before[1][-1], words[1], now[1][-1])


def _is_numpy_ahead(before: Any, now: Any) -> bool:
    same = before[2] == now[2] and np.array_equal(before[1], now[1])
    return same or _is_ahead(before[1], before[2], now[1], now[2])


def _is_torch_ahead(before: Any, now: Any) -> bool:
    if before.equal(now):
        return True
    if not _is_known():
        return bool(before[:8].equal(now[:8]))  # at least its seed
    words, places = zip(*map(_torch_words, (before, now)), strict=True)
    return _is_ahead(words[0], places[0], words[1], places[1])


def _is_cuda_ahead(before: Any, now: Any) -> bool:
    """Philox: the seed stays, and the offset grows."""
    seeds, offsets = zip(*(state[:16].numpy().view(np.int64).tolist() for state in (before, now)), strict=True)
    return bool(seeds[0] == seeds[1] and offsets[0] <= offsets[1])


def _torch_words(state: Any) -> tuple[Any, int]:
    """(the 624 words, the place of the next one) of a state of torch for CPUs."""
    data: Any = state.numpy()
    left = int(data[8:12].view(np.int32)[0])
    words = data[_FIRST_WORD : _FIRST_WORD + 8 * _WORDS].view(np.uint64).astype(np.uint32)
    return words, _WORDS + 1 - left


@functools.cache
def _is_known() -> bool:
    """Whether the state of this torch has the words of MT19937 where they are looked for."""
    torch = sys.modules["torch"]
    state = torch.Generator().manual_seed(5).get_state()
    if state.numel() != _STATE_BYTES:
        return False
    words, place = _torch_words(state)
    expected: Any = np.random.RandomState(5).get_state()
    return place == _WORDS and np.array_equal(words, expected[1])


def _is_ahead(words: Any, place: int, now: Any, now_place: int) -> bool:
    """Whether drawing leads from one state of MT19937 to another, within so many numbers that it is quick to see."""
    if np.array_equal(words, now):
        return place <= now_place
    generator = np.random.MT19937()
    state: Any = generator.state
    state["state"] = {"key": np.ascontiguousarray(words, np.uint32), "pos": _WORDS}
    generator.state = state
    drawn = generator.random_raw(_WORDS * _MOST_BLOCKS).reshape(_MOST_BLOCKS, _WORDS)
    wanted = _tempered(np.asarray(now, np.uint64))
    return any(np.array_equal(drawn[block], wanted) for block in np.flatnonzero(drawn[:, 0] == wanted[0]))


def _tempered(words: Any) -> Any:
    """The numbers that MT19937 makes of its words (Matsumoto and Nishimura 1998, equations 2.2 to 2.5)."""
    words = words ^ (words >> 11)
    words = words ^ ((words << 7) & 0x9D2C5680)
    words = words ^ ((words << 15) & 0xEFC60000)
    return words ^ (words >> 18)
