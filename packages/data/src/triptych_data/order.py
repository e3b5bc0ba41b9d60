"""Order as a pure integer function of (seed, epoch, position): no state, no generator, the same on every machine.

The permutation is a six-round Feistel network over the next even power of two with cycle walking (Black and Rogaway
2002, "Ciphers with arbitrary finite domains"); its round function is SplitMix64 (Steele et al. 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MASK = (1 << 64) - 1
_ROUNDS = 6


def mix(*values: int) -> int:
    """A 64-bit hash of integers."""
    state = 0
    for value in values:
        state = _splitmix64(state ^ (value & _MASK))
    return state


def permuted(position: int, *, length: int, seed: int, epoch: int = 0) -> int:
    """Element `position` of a permutation of range(length), keyed by seed and epoch."""
    if not 0 <= position < length:
        raise IndexError(f"expected a position from 0 to {length - 1}, got {position}")
    half = max(1, ((length - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    keys = [mix(seed, epoch, number) for number in range(_ROUNDS)]
    value = position
    while True:
        left, right = value >> half, value & mask
        for key in keys:
            left, right = right, left ^ (_splitmix64(right ^ key) & mask)
        value = left << half | right
        if value < length:  # otherwise walk the cycle: the network permutes the larger range
            return value


def drawn(*key: int, length: int) -> int:
    """A number in range(length) that depends on nothing but its key."""
    return mix(*key) % length


def _splitmix64(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The endless sequence of rows of one dataset: every epoch is a permutation of its own."""

    length: int
    seed: int = 0
    shuffle: bool = True

    def __call__(self, position: int) -> int:
        """The row at a position of the endless sequence."""
        epoch, place = divmod(position, self.length)
        return permuted(place, length=self.length, seed=self.seed, epoch=epoch) if self.shuffle else place

    def instead(self, position: int, attempt: int) -> int:
        """The row that replaces an unusable one: keyed, so that no later position moves."""
        return drawn(self.seed, position, attempt, 0x5EED, length=self.length)


def quotas(lengths: Sequence[int], weights: Sequence[float]) -> list[int]:
    """How many rows of each source one epoch of a mixture holds, so that no source is repeated within it.

    Shares are as near to the weights as whole rows allow (largest remainder); at least one row of each.
    """
    if len(lengths) != len(weights) or not lengths or min(weights) <= 0 or min(lengths) < 1:
        raise ValueError(f"expected one positive weight per non-empty source, got {list(weights)} for {list(lengths)}")
    shares = [weight / sum(weights) for weight in weights]
    total = max(len(lengths), int(min(length / share for length, share in zip(lengths, shares, strict=True)) + 1e-9))
    exact = [share * total for share in shares]
    counts = [max(1, int(value)) for value in exact]
    by_remainder = sorted(range(len(counts)), key=lambda index: int(exact[index]) - exact[index])
    for index in by_remainder[: max(0, total - sum(counts))]:
        counts[index] += 1
    return [min(count, length) for count, length in zip(counts, lengths, strict=True)]
